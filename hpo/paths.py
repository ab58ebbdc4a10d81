"""Where a study's files lie: names under ``studies/STUDY/`` and the database beside them."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import UsageError
from trainables.config import PAPER_BACKBONES
from trainables.trainable import FINETUNE

_LONGEST_NAME = 120


def studies_dir(option: Path | None) -> Path:
    """Return the folder of all studies: `option`, else ``$HPO_STUDIES_DIR``, else ``studies`` here; absolute."""
    return (option or Path(os.environ.get("HPO_STUDIES_DIR") or "studies")).expanduser().absolute()


def located_by(studies_dir: Path | None, storage: str | None) -> tuple[str, ...]:
    """Return the options, as they were given, that say where studies lie; a password in them is masked."""
    # SQLAlchemy is not imported before a command needs it.
    from hpo.addresses import shown

    options = {"--studies-dir": studies_dir, "--storage": storage and shown(storage)}
    return tuple(word for name, value in options.items() if value is not None for word in (name, str(value)))


def check_study_name(name: str) -> str:
    """Return `name` if it can be the name of a folder inside the studies folder.

    Raises:
        UsageError: It is empty, hidden, too long, or holds a slash or a character that cannot be printed.
    """
    if not name.isprintable() or "/" in name or "\\" in name:
        raise UsageError(
            f"study {name!r}: a study's name is a folder's name too, so it may hold anything printable"
            " but slashes and backslashes; give it another."
        )
    if not name or name.startswith((".", "-")) or len(name.encode()) > _LONGEST_NAME:
        raise UsageError(
            f"study {name!r}: a name of 1 to {_LONGEST_NAME} bytes that starts with neither '.' nor '-' is needed."
        )
    return name


def study_names(backbones: list[str], dataset: str, study: str | None, trainable: str = FINETUNE) -> dict[str, str]:
    """Return the name of each backbone's study: `study`, or STUDY-BACKBONE of several, or BACKBONE-DATASET.

    The last has the name of a trainable before it that is not fine-tuning.

    Raises:
        UsageError: It can be no study's name.
    """
    chosen = [name for one in backbones for name in (PAPER_BACKBONES if one == "all" else (one,))]
    several = len(set(chosen)) > 1
    first = "" if trainable == FINETUNE else f"{_as_name(trainable)}-"
    names = {
        one: f"{study}-{_as_name(one)}" if study and several else study or f"{first}{_default_name(one, dataset)}"
        for one in chosen
    }
    return {one: check_study_name(name) for one, name in names.items()}


def _default_name(backbone: str, dataset: str) -> str:
    """BACKBONE-DATASET."""
    return f"{_as_name(backbone)}-{dataset_name(dataset)}"


def dataset_name(dataset: str) -> str:
    """Return what a dataset is called in the names of studies: of a folder its own name."""
    folder = dataset.partition(":")[2]
    return Path(folder).expanduser().absolute().name if folder else dataset


def _as_name(backbone: str) -> str:
    return backbone.replace("/", "-")


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study.

    Raises:
        UsageError: The name, which may come from the command line or a database, is none for a folder.
    """

    studies: Path
    name: str
    located_by: tuple[str, ...] = ()
    """The options that a command needs to find the study."""

    def __post_init__(self) -> None:
        """Let no name lead out of the studies folder."""
        check_study_name(self.name)

    @property
    def folder(self) -> Path:
        """Everything of the study but its ledger."""
        return self.studies / self.name

    @property
    def best(self) -> Path:
        """The best configuration, as a search space that tries it first."""
        return self.folder / "best.toml"

    @property
    def trials(self) -> Path:
        """One row per trial."""
        return self.folder / "trials.csv"

    @property
    def splits(self) -> Path:
        """Which image belongs to which split."""
        return self.folder / "splits.csv"

    @property
    def checkpoints(self) -> Path:
        """The states of trials that have not ended, where no other place was asked for."""
        return self.folder / "checkpoints"

    @property
    def final(self) -> Path:
        """The retrained model and its held-out test."""
        return self.folder / "final"

    @property
    def report(self) -> Path:
        """Pictures of the study."""
        return self.folder / "report"

    @property
    def marker(self) -> Path:
        """Holds the key of the study that the folder belongs to, whatever a study is called later."""
        return self.folder / ".study"

    @property
    def written(self) -> tuple[Path, ...]:
        """All that may be written below the folder but the lock and the marker; what else is there is the user's."""
        unfinished = (self.folder / ".final-new", self.folder / ".final-old")
        files = (self.best, self.trials, self.splits)
        return (*files, self.checkpoints, self.final, self.report, self.scratch, *unfinished)

    @property
    def lock(self) -> Path:
        """Names the process that runs the study."""
        return self.folder / ".lock"

    @property
    def scratch(self) -> Path:
        """What Ray Tune writes while a study runs; never read again."""
        return self.folder / ".ray"


def command(verb: str, studies: Sequence[StudyPaths], *options: str) -> str:
    """Return the command that continues studies, such as ``resume``, to be pasted where they were started."""
    return shlex.join(["hpo", verb, *(study.name for study in studies), *options, *studies[0].located_by])
