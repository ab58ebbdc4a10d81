"""A study as people use it from Python: what it found, and what can be done with it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.api.options import Location
from hpo.choices import ExportFormat, RetrainOn
from hpo.errors import UsageError
from hpo.live.screen import Screen
from trainables.config import ModelFormat

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from hpo.ledger.ledger import Ledger
    from hpo.ledger.records import State, TrialRecord
    from hpo.models.export import Exported
    from hpo.models.predict import Prediction
    from hpo.studies.lifecycle import Ended


@dataclass(frozen=True)
class Study:
    """A study in its ledger, as `open_study` and `run` return it.

    What it says is read when it is asked for, so it is current while the study runs elsewhere. Everything raises
    `hpo.HpoError` if the study was deleted meanwhile, or the database cannot be used.
    """

    ledger: "Ledger"
    location: Location

    @property
    def name(self) -> str:
        """The study's name, which is its folder's, too."""
        return self.ledger.name

    @property
    def folder(self) -> Path:
        """Where ``final/``, ``report/``, ``best.toml``, ``trials.csv`` and ``splits.csv`` are written."""
        return self.location.paths(self.name).folder

    @property
    def states(self) -> "dict[State, int]":
        """How many trials are COMPLETE, PRUNED, FAIL and RUNNING, zeros included."""
        return self.ledger.count_states()

    @property
    def best(self) -> "TrialRecord | None":
        """The trial of the highest validation accuracy at any epoch, in [0, 1]; None: none has ended yet.

        PRUNED trials count only where none is COMPLETE. ``best.params`` is its configuration, ``best.best`` its best
        epoch.
        """
        from hpo.ledger.records import best_records

        return next(iter(best_records(self.ledger.records(), 1)), None)

    @property
    def trials(self) -> "pd.DataFrame":
        """A row for each trial: number, state, a column for each parameter, ``epochs_trained``, ``best_epoch``,
        ``best_val_accuracy`` and ``last_val_accuracy`` in [0, 1], wall ``seconds`` and ``seconds_trained`` without
        waits, ``host``, ``device``, ``memory_gb`` in GiB, ``error``.
        """
        from hpo.views.frames import trials_frame

        return trials_frame(self.ledger.records())

    @property
    def curves(self) -> "pd.DataFrame":
        """A row for each epoch of each trial: ``trial``, ``epoch`` from 1, ``val_accuracy`` in [0, 1], ``val_loss``
        and ``train_loss`` in nats, ``learning_rate``, ``seconds``, ``images_per_second``, the numbers in results'
        ``extra``, ``host``, ``device``.
        """
        from hpo.views.frames import curves_frame

        return curves_frame(self.ledger.records())

    @property
    def final(self) -> dict[str, Any] | None:
        """What ``final/metrics.json`` holds of the last retrain: ``test_accuracy``, ``test_accuracy_ci95`` and so on;
        None before the first.
        """
        return self.ledger.final

    @property
    def summary(self) -> dict[str, Any]:
        """What ``hpo status STUDY --json`` prints."""
        from hpo.views.summary import summarise

        return summarise(self.ledger, 0.0)

    def export(self, form: ExportFormat = "toml", top: int = 1) -> str:
        """Return the `top` best configurations as text; ``toml`` is a search space that tries them first.

        Raises:
            HpoError: The study has no finished trial.
        """
        from hpo.studies.export import export

        return export(self.ledger, form, top)

    def predict(self, images: "Iterable[str | Path | Image]") -> "list[Prediction]":
        """Classify images with the final model, on a GPU where there is one; `hpo.predict` takes a model's folder.

        Args:
            images: Files, folders (all images in them and below) and Pillow's images, of any size and mode.

        Returns:
            A prediction for each image, in their order. One that cannot be read has an ``error`` and stops nothing.

        Raises:
            HpoError: There is no final model yet, or not all of its files.
            ValueError: Its weights are damaged, or a backbone of one's own is not what it was.
        """
        from hpo.models.folder import model_of_study
        from hpo.models.predict import predict

        return predict(model_of_study(self.location.paths(self.name), self.location.url), images)

    def export_model(self, form: ModelFormat, output: Path | None = None) -> "Exported":
        """Write the final model in another format, after it was compared with the model on training images.

        Args:
            form: ``onnx``, ``torchscript`` or ``torch-export``.
            output: The file; None: ``model.onnx``, ``model.pt`` or ``model.pt2`` in the study's ``final`` folder.

        Raises:
            HpoError: There is no final model yet, or the file would differ from it; no file is left.
            ValueError: A package or the images are missing, or the network cannot be written so; no file is left.
        """
        from hpo.models.export import export_model
        from hpo.models.folder import model_of_study

        model = model_of_study(self.location.paths(self.name), self.location.url)
        return export_model(model, form, output, self.ledger.run_options.data_dir)

    def report(self) -> Path:
        """Write an HTML page about the study, with its figures as PNG and SVG and its tables as CSV; return the page.

        It is ``report/report.html`` in `folder`, and may be written while the study runs.
        """
        return compare([self])

    def resume(
        self, *, trials: int | None = None, address: str | None = None, timeout_s: float | None = None
    ) -> "Study":
        """Continue the study where it stopped, and return it.

        Args:
            trials: A higher target; None: the present one.
            address: ``local``, ``auto`` or HOST:PORT of a Ray cluster; None: where it ran last.
            timeout_s: Seconds after which no epoch is started; None: as it was run last.

        Raises:
            UsageError: `trials` is lower than what the study has, or what it was made of has changed.
            InterruptedStudy: Ctrl-C stopped it; it can be resumed.
            HpoError: It failed.
        """
        from hpo.studies import lifecycle

        paths = self.location.paths(self.name)
        lifecycle.resume([paths], self.location.url, trials=trials, address=address, timeout_s=timeout_s).check()
        return self

    def retrain(
        self, *, seeds: int = 1, top: int = 1, on: RetrainOn = "train+val", address: str | None = None
    ) -> "Study":
        """Retrain the best configuration, look at held-out test once for each model, and return the study.

        Args:
            seeds: Models to train; mean and deviation are reported.
            top: So many of the best configurations are retrained, and validation chooses among them.
            on: What the model learns from.
            address: ``local``, ``auto`` or HOST:PORT of a Ray cluster; None: where it ran last.

        Raises:
            UsageError: What its trials run has no final model.
            InterruptedStudy: Ctrl-C stopped it; it can be repeated.
            HpoError: It failed.
        """
        self.retrain_again(seeds=seeds, top=top, on=on, address=address).check()
        return self

    def retrain_again(self, *, seeds: int, top: int, on: RetrainOn, address: str | None) -> "Ended":
        """Retrain as `retrain` does, and return how it ended."""
        with Screen() as screen:
            screen.doing(f"study {self.name}: opening the ledger")

            from hpo.studies.lifecycle import retrain_again

            paths, url = self.location.paths(self.name), self.location.url
            return retrain_again(paths, url, seeds=seeds, top=top, on=on, address=address, screen=screen)

    def delete(self) -> None:
        """Delete the study, its trials, its models, and what hpo wrote into its folder.

        Raises:
            HpoError: It is being run.
        """
        from hpo.studies.delete import delete

        delete(self.location.url, self.location.paths(self.name))


def open_study(name: str, location: Location = Location()) -> Study:
    """Return study `name`.

    Raises:
        UsageError: There is no such study; the message lists those that are there.
        HpoError: The database cannot be used.
    """
    from hpo.ledger import studies

    return Study(studies.open_study(location.url, name), location)


def list_studies(location: Location = Location()) -> list[Study]:
    """Return all studies of a database, by name; none where there is no database yet.

    Raises:
        HpoError: The database cannot be used.
    """
    from hpo.ledger import studies

    return [Study(ledger, location) for ledger in studies.list_studies(location.url)]


def compare(studies: Sequence[Study]) -> Path:
    """Write an HTML page that puts studies side by side, with its figures and tables, and return it.

    It is ``reports/NAMES/report.html`` in the folder of studies; that of one study alone is the study's `report`.

    Raises:
        UsageError: No study is given.
    """
    if not studies:
        raise UsageError("no studies to compare; give one or more.")
    from hpo.report import build
    from hpo.report.source import read

    sources = [read(one.ledger, one.location.paths(one.name)) for one in studies]
    return build.report(sources, build.report_folder([one.paths for one in sources]))
