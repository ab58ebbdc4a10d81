"""The end of a study: the best configuration is trained once more, and then looks at held-out test images.

This module alone evaluates on them. Every look is counted in the ledger before it is taken.
"""

import json
import logging
import shutil
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import ray
import tomli_w

from hpo.errors import HpoError
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import TrialRecord, best_records
from hpo.machines.placement import Fit, Placement, Share, can_hold, correction
from hpo.machines.session import nodes, use_given_cards
from hpo.paths import StudyPaths, command
from hpo.spec import trial_config
from hpo.tune.trials import StudyRun
from hpo.views.figures import draw_confusion
from trainables.config import EpochResult, TrialConfig
from trainables.seeds import stream

if TYPE_CHECKING:
    from hpo.studies.metrics import TestMetrics

logger = logging.getLogger(__name__)

RetrainOn = Literal["train+val", "train"]
_NODES_LOOK_S = 10.0
"""Between two looks at which machines are alive."""


@dataclass(frozen=True)
class Retrained:
    """What one retrain brought back."""

    model: bytes
    """A safetensors file."""
    test: "TestMetrics"
    classes: tuple[str, ...]
    predictions: tuple[tuple[str, int, int], ...]
    """(image, true class, predicted class) of each test image."""


@dataclass(frozen=True)
class Retraining:
    """A retrain that Ray has been given."""

    ledger: Ledger
    paths: StudyPaths
    chosen: TrialRecord
    on: RetrainOn
    share: Share
    futures: list[Any]

    def conclude(self) -> dict[str, Any]:
        """Wait for its end, write the study's ``final`` folder, and return the ledger's record of it.

        Returns:
            `test_accuracy`, `test_accuracy_ci95`, `model` and more.

        Raises:
            HpoError: It failed.
        """
        retrained = [Retrained(**fields) for fields in _results(self.futures, self.share, self.paths)]
        result = _result(self.ledger, self.chosen, retrained, self.on, self.paths)
        _write(self.paths, self.ledger, self.chosen, retrained[0], result)
        self.ledger.final = result
        return result


def begin_retrain(
    run: StudyRun, placement: Placement, *, seeds: int = 1, top: int = 1, on: RetrainOn = "train+val"
) -> Retraining:
    """Give Ray the retrain of a study's best configuration, which then looks at held-out test.

    Args:
        run: A study with at least one trial that is COMPLETE or PRUNED.
        placement: The machines; Ray must be up.
        seeds: How many models are trained; the first is kept, and test accuracy gets a mean and a deviation.
        top: How many of the best configurations are first trained again on the training split, with another seed;
            the one of the highest validation accuracy is chosen.
        on: Whether the final model learns from the validation images too.

    Raises:
        HpoError: No trial has ended with an epoch, or one of the `top` failed.
    """
    candidates = best_records(run.ledger.records(), top)
    if not candidates:
        raise HpoError(_nothing_to_retrain(run.ledger))
    chosen = _choose(run, candidates, placement) if top > 1 else candidates[0]
    share = _fit(run, chosen, placement).share
    futures = _train_and_test(run, chosen, placement, share, seeds, on)
    return Retraining(run.ledger, run.paths, chosen, on, share, futures)


def _nothing_to_retrain(ledger: Ledger) -> str:
    errors = [record.error for record in ledger.records() if record.error is not None]
    if errors:
        return f"study {ledger.name} has nothing to retrain: {len(errors)} trials failed, the last with {errors[-1]}"
    return f"study {ledger.name} has no finished trial to retrain yet; `hpo resume` goes on with it."


def _task(share: Share, function: Any) -> Any:
    """Return `function` as a task of Ray's that asks for `share`, and is not repeated, for it may look at test data."""
    asked = share.resources
    cpus, gpus = asked.pop("CPU"), asked.pop("GPU")
    return ray.remote(num_cpus=cpus, num_gpus=gpus, resources=asked, max_retries=0)(function)


def _fit(run: StudyRun, record: TrialRecord, placement: Placement) -> Fit:
    mode = record.params["freeze_mode"]
    fit = placement.fit(mode, record.params["batch_size"], run.needs.get(mode), correction(mode, record.memory_gb))
    return fit or Fit(placement.whole, None)


def _config(run: StudyRun, record: TrialRecord, placement: Placement, repeat: int) -> TrialConfig:
    fit = _fit(run, record, placement)
    sizes = [size for size in (fit.micro_batch, run.ledger.micro_batch(record.params)) if size is not None]
    return trial_config(
        run.ledger.spec,
        run.options,
        record.params,
        stream(run.ledger.spec.seed, "retrain", record.number, repeat),
        fit.share.threads,
        min(sizes, default=None),
    )


def _choose(run: StudyRun, candidates: list[TrialRecord], placement: Placement) -> TrialRecord:
    """Train each candidate again on the training split and return the best on validation."""
    shares = [_fit(run, record, placement).share for record in candidates]
    futures = [
        _task(share, _validate).remote(_config(run, record, placement, 1))
        for record, share in zip(candidates, shares, strict=True)
    ]
    accuracies = _results(futures, max(shares, key=lambda share: share.vram_gb), run.paths)
    for record, accuracy in zip(candidates, accuracies, strict=True):
        logger.info("trial %d trained again: validation accuracy %.4f", record.number, accuracy)
    return max(zip(accuracies, candidates, strict=True), key=lambda pair: (pair[0], -pair[1].number))[1]


def _train_and_test(
    run: StudyRun, chosen: TrialRecord, placement: Placement, share: Share, seeds: int, on: RetrainOn
) -> list[Any]:
    assert chosen.best is not None
    rates = [result.learning_rate for result in chosen.curve[: chosen.best.epoch]] if on == "train+val" else None
    task = _task(share, _train)
    logger.info(
        "study %s: retraining trial %d on %s for %d epochs%s",
        run.ledger.name,
        chosen.number,
        on,
        chosen.best.epoch if rates else chosen.params["epochs"],
        f", {seeds} seeds" if seeds > 1 else "",
    )
    futures = []
    for repeat in range(seeds):
        run.ledger.count_test_look()
        futures.append(task.remote(_config(run, chosen, placement, repeat), rates))
    return futures


def _results(futures: list[Any], share: Share, paths: StudyPaths) -> list[Any]:
    """Wait for tasks that ask for `share` or less.

    Raises:
        HpoError: One failed, or the machine that could run it is gone, for whose return Ray would wait for ever.
    """
    failed, again = f"the retrain of study {paths.name} failed", f"try again with: {command('resume', [paths])}"
    waiting = futures
    try:
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_NODES_LOOK_S)
            if waiting and not can_hold(nodes(), share):
                raise HpoError(f"{failed}: the machine that could hold it is gone; {again}")
        return list(ray.get(futures))
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise HpoError(f"{failed}: {reason.rstrip('.')}; {again}") from error


def _validate(config: TrialConfig) -> float:
    """Train on the training split and return the best validation accuracy (runs in a Ray task)."""
    from trainables.training.retraining import begin, train_with_validation

    use_given_cards()
    learner, data = begin(config)
    return max(result.val_accuracy for result in train_with_validation(learner, data))


def _train(config: TrialConfig, learning_rates: list[float] | None) -> dict[str, Any]:
    """Train the final model and test it (runs in a Ray task); without rates, train as the trial did."""
    from hpo.studies.metrics import measure
    from trainables.training.held_out_evaluation import look_at_test
    from trainables.training.retraining import begin, model_bytes, train_on_all, train_with_validation

    use_given_cards()
    learner, data = begin(config)
    epochs: Iterator[EpochResult] = (
        train_with_validation(learner, data) if learning_rates is None else train_on_all(learner, data, learning_rates)
    )
    for _ in epochs:
        pass
    seen = look_at_test(learner)
    pairs = zip(seen.ids, seen.labels.tolist(), seen.predicted.tolist(), strict=True)
    return {
        "model": model_bytes(learner),
        "test": measure(seen.labels, seen.predicted, seen.classes),
        "classes": seen.classes,
        "predictions": tuple(pairs),
    }


def _result(
    ledger: Ledger, chosen: TrialRecord, retrained: list[Retrained], on: RetrainOn, paths: StudyPaths
) -> dict[str, Any]:
    accuracies = [one.test.accuracy for one in retrained]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    first = retrained[0].test
    return {
        "trial": chosen.number,
        "on": on,
        "test_accuracy": first.accuracy,
        "test_accuracy_ci95": list(first.ci95),
        "mean_per_class_accuracy": first.mean_per_class_accuracy,
        "test_images": first.images,
        "test_looks": ledger.test_looks,
        "seeds": {"test_accuracies": accuracies, "mean": statistics.fmean(accuracies), "stdev": spread},
        "model": str(paths.final / "model.safetensors"),
    }


def _write(
    paths: StudyPaths, ledger: Ledger, chosen: TrialRecord, retrained: Retrained, result: Mapping[str, Any]
) -> None:
    """Write the final folder beside its place and move it there whole."""
    assert chosen.best is not None
    fresh, old = paths.folder / ".final-new", paths.folder / ".final-old"
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        (fresh / "model.safetensors").write_bytes(retrained.model)
        metrics = {**result, "classification_report": retrained.test.report}
        (fresh / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
        (fresh / "classification_report.txt").write_text(retrained.test.report_text, encoding="utf-8")
        _write_predictions(fresh / "test_predictions.csv", retrained)
        config = {**chosen.params, "best_epoch": chosen.best.epoch, "trial": chosen.number}
        spec = {key: value for key, value in ledger.spec.model_dump().items() if value is not None and key != "space"}
        document = {
            "config": config,
            "study": {"name": ledger.name, **spec},
            "classes": list(retrained.classes),
        }
        (fresh / "config.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
        title = f"{ledger.name}\nheld-out test accuracy {result['test_accuracy']:.3f}"
        draw_confusion(retrained.test.confusion, retrained.classes, title, fresh / "confusion_matrix.png")
        if paths.final.exists():
            paths.final.rename(old)
        fresh.rename(paths.final)
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _write_predictions(path: Path, retrained: Retrained) -> None:
    import pandas as pd

    rows = [(name, retrained.classes[true], retrained.classes[said]) for name, true, said in retrained.predictions]
    pd.DataFrame(rows, columns=["image", "true", "predicted"]).to_csv(path, index=False)
