"""The end of a study: its best configuration is trained once more, checked, and then looks at held-out test images.

This module alone evaluates on them, in this order: a model is trained, it is checked that it is worth a look, the look
is counted in the ledger, and it is taken.
"""

import dataclasses
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from hpo.choices import RetrainOn
from hpo.errors import HpoError
from hpo.final.files import Look, TestedModel, conclude
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import TrialRecord, best_records
from hpo.machines.checkpoints import CheckpointPlace, forget_checkpoints
from hpo.machines.placement import Fit, Placement, Share, can_hold, correction
from hpo.machines.session import nodes, use_given_cards
from hpo.paths import command
from hpo.spec import trial_config
from hpo.tune.trials import StudyRun
from trainables.config import EpochResult, TrainedModel, TrialConfig
from trainables.seeds import stream

logger = logging.getLogger(__name__)

_NODES_LOOK_S = 10.0
"""Seconds between two looks at which machines are alive."""
_FAR_BELOW = 0.1
"""How far a model's accuracy on the images that it learned from may be below its trial's validation accuracy. Of one
that was far from right, half of what it lacked is allowed: three of one such configuration had 0.18, 0.21 and 0.32."""


@dataclass
class _Model:
    """One final model in training."""

    repeat: int
    config: TrialConfig
    stream: Any
    """What Ray yields of its training, and then of its look at test."""
    attempt: int = 0
    trained: TrainedModel | None = None
    """None until it is trained and worth a look."""
    reference: Any = None
    """Ray's, of `trained`."""
    tested: TestedModel | None = None


@dataclass
class Retraining:
    """A retrain that Ray has been given."""

    run: StudyRun
    chosen: TrialRecord
    on: RetrainOn
    share: Share
    models: list[_Model]
    again: str
    """The command that tries again."""
    failure: HpoError | None = None


def needs_retrain(ledger: Ledger) -> bool:
    """Return whether a study has a best trial that its final model does not come from."""
    best, final = best_records(ledger.records(), 1), ledger.final
    return bool(best) and (final is None or final.get("best_trial", final["trial"]) != best[0].number)


def nothing_to_retrain(ledger: Ledger) -> HpoError:
    """Return why a study has no trial that could be retrained."""
    errors = [record.error for record in ledger.records() if record.error is not None]
    if errors:
        return HpoError(f"study {ledger.name} has no result: {len(errors)} trials failed, the last with {errors[-1]}")
    return HpoError(f"study {ledger.name} has no finished trial to retrain yet; `hpo resume` continues it.")


def begin_retrain(
    run: StudyRun, placement: Placement, *, seeds: int = 1, top: int = 1, on: RetrainOn = "train+val"
) -> Retraining:
    """Give Ray the retrain of a study's best configuration; `finish_retrains` waits for it.

    One that was interrupted continues from its checkpoint.

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
        raise nothing_to_retrain(run.ledger)
    chosen = _choose(run, candidates, placement) if top > 1 else candidates[0]
    share = _fit(run, chosen, placement).share
    logger.info(
        "study %s: retraining trial %d on %s for %d epochs%s",
        run.ledger.name,
        chosen.number,
        on,
        chosen.params["epochs"],
        f", {seeds} seeds" if seeds > 1 else "",
    )
    again = command("retrain", [run.paths], "--seeds", str(seeds), "--top", str(top), "--on", on)
    retraining = Retraining(run, chosen, on, share, [], again)
    for repeat in range(seeds):
        config = _config(run, chosen, placement, ("retrain", on, repeat, 0))
        retraining.models.append(_Model(repeat, config, _start(retraining, config, repeat)))
    return retraining


def finish_retrains(retrainings: Sequence[Retraining], check: Callable[[], None]) -> None:
    """Wait for retrains, take their looks at test, and write the studies' ``final`` folders and ledgers.

    One that fails gets its `failure`; the others end in order.

    Args:
        retrainings: Those that were begun.
        check: Called again and again; raises if the user wants to stop. Checkpoints keep what was trained.
    """
    while waiting := [
        (retraining, model)
        for retraining in retrainings
        for model in retraining.models
        if retraining.failure is None and model.stream is not None
    ]:
        ready, _ = ray.wait([model.stream for _, model in waiting], num_returns=1, timeout=_NODES_LOOK_S)
        check()
        for retraining, model in waiting:
            try:
                if model.stream in ready:
                    _advance(retraining, model)
                elif not ready:
                    _check_machines(retraining.run, retraining.share, retraining.again)
            except HpoError as error:
                retraining.failure = error
            except OSError as error:
                retraining.failure = HpoError(f"{error.filename}: {error.strerror}; try again with: {retraining.again}")


def _advance(retraining: Retraining, model: _Model) -> None:
    """Take up the next that a model's task yields."""
    run = retraining.run
    with _explained(run, retraining.again):
        reference = next(model.stream)
        item = ray.get(reference)
    if isinstance(item, EpochResult):
        run.listener.retrained(item, model.config.epochs)
    elif isinstance(item, TrainedModel):
        _check_trained(retraining, model, item, reference)
    elif isinstance(item, Look):
        assert model.trained is not None
        model.stream, model.tested = None, TestedModel(model.trained.model, model.trained.accuracy, item)
        tested = [one.tested for one in retraining.models if one.tested is not None]
        if len(tested) == len(retraining.models):
            conclude(run, retraining.chosen, retraining.on, tested)
            forget_checkpoints(run.checkpoints.of_final, frozenset())
    else:
        # The look has its machine, and comes next.
        run.ledger.count_test_look()


def _check_trained(retraining: Retraining, model: _Model, trained: TrainedModel, reference: Any) -> None:
    """Train a model that is not worth a look once more; begin the looks when all models are."""
    run = retraining.run
    problem = fault(trained, retraining.chosen)
    if problem is not None:
        if model.attempt:
            raise HpoError(f"the retrain of study {run.ledger.name} failed: {problem}, twice; no model was written")
        logger.warning("study %s: %s; it is trained once more with another seed", run.ledger.name, problem)
        model.attempt += 1
        seed = stream(run.ledger.spec.seed, "retrain", retraining.on, model.repeat, model.attempt)
        model.config = dataclasses.replace(model.config, seed=seed)
        model.stream = _start(retraining, model.config, model.repeat)
        return
    model.stream, model.trained, model.reference = None, trained, reference
    if all(one.trained is not None for one in retraining.models):
        task = _task(retraining.share, _look).options(num_returns="streaming")
        for one in retraining.models:
            one.stream = task.remote(one.config, one.reference)


def fault(trained: TrainedModel, chosen: TrialRecord) -> str | None:
    """Return why a model is not worth a look at test; None: it is."""
    assert chosen.best is not None
    if not trained.is_finite:
        return "the retrain's loss is not finite"
    promised = chosen.best.val_accuracy
    if trained.accuracy < promised - max(_FAR_BELOW, (1 - promised) / 2):
        return (
            f"the retrained model classifies {trained.accuracy:.4f} of the images that it learned from, where its trial"
            f" had {promised:.4f} of those that it had not learned from"
        )
    return None


def _task(share: Share, function: Any) -> Any:
    """Return `function` as a Ray task that asks for `share`; it is not retried, since it may look at test data."""
    asked = share.resources
    cpus, gpus = asked.pop("CPU"), asked.pop("GPU")
    return ray.remote(num_cpus=cpus, num_gpus=gpus, resources=asked, max_retries=0)(function)


def _start(retraining: Retraining, config: TrialConfig, repeat: int) -> Any:
    task = _task(retraining.share, _train).options(num_returns="streaming")
    # A trial that ASHA stopped has no later rates than its last.
    known = [result.learning_rate for result in retraining.chosen.curve]
    rates = (known + known[-1:] * config.epochs)[: config.epochs]
    return task.remote(config, retraining.on, rates, retraining.run.checkpoints.of_final, repeat)


def _fit(run: StudyRun, record: TrialRecord, placement: Placement) -> Fit:
    mode = record.params["freeze_mode"]
    fit = placement.fit(mode, record.params["batch_size"], run.needs.get(mode), correction(mode, record.memory_gb))
    return fit or Fit(placement.whole, None)


def _config(run: StudyRun, record: TrialRecord, placement: Placement, stream_of: tuple[str | int, ...]) -> TrialConfig:
    fit = _fit(run, record, placement)
    sizes = [size for size in (fit.micro_batch, run.ledger.micro_batch(record.params)) if size is not None]
    return trial_config(
        run.ledger.spec,
        run.options,
        record.params,
        stream(run.ledger.spec.seed, *stream_of),
        fit.share.threads,
        min(sizes, default=None),
    )


def _choose(run: StudyRun, candidates: list[TrialRecord], placement: Placement) -> TrialRecord:
    """Train each candidate again on the training split and return the best on validation."""
    shares = [_fit(run, record, placement).share for record in candidates]
    again = command("retrain", [run.paths], "--top", str(len(candidates)))
    futures = [
        _task(share, _validate).remote(_config(run, record, placement, ("candidate", record.number)))
        for record, share in zip(candidates, shares, strict=True)
    ]
    largest, waiting = max(shares, key=lambda share: share.vram_gb), futures
    with _explained(run, again):
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_NODES_LOOK_S)
            if waiting:
                _check_machines(run, largest, again)
        accuracies: list[float] = ray.get(futures)
    for record, accuracy in zip(candidates, accuracies, strict=True):
        logger.info("trial %d trained again: validation accuracy %.4f", record.number, accuracy)
    return max(zip(accuracies, candidates, strict=True), key=lambda pair: (pair[0], -pair[1].number))[1]


@contextmanager
def _explained(run: StudyRun, again: str) -> Iterator[None]:
    """Turn what Ray raises of a task into one line.

    Raises:
        HpoError: The task failed.
    """
    try:
        yield
    except (RayError, StopIteration) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
        raise HpoError(f"the retrain of study {run.ledger.name} failed: {reason}; try again with: {again}") from error


def _check_machines(run: StudyRun, share: Share, again: str) -> None:
    """See that a retrain does not wait for a machine that is gone.

    Raises:
        HpoError: It does; Ray would wait forever.
    """
    if not can_hold(nodes(), share):
        raise HpoError(
            f"the retrain of study {run.ledger.name} failed: the machine that could hold it is gone; try again with:"
            f" {again}"
        )


def _validate(config: TrialConfig) -> float:
    """Train on the training split and return the best validation accuracy (runs in a Ray task)."""
    from trainables.training.micro_batches import in_memory
    from trainables.training.trial import run_trial

    use_given_cards()
    return max(float(result.val_accuracy) for _, result in in_memory(config, run_trial))


def _train(
    config: TrialConfig, on: RetrainOn, learning_rates: list[float], place: CheckpointPlace, repeat: int
) -> Iterator[EpochResult | TrainedModel]:
    """Train a final model, from where an interrupted run left it (runs in a Ray task)."""
    from trainables.training.checkpoint import CheckpointError
    from trainables.training.micro_batches import in_memory
    from trainables.training.retraining import retrain

    use_given_cards()
    store = place.store

    def begin(fitting: TrialConfig) -> Generator[EpochResult | TrainedModel, None, None]:
        def save(state: bytes) -> None:
            store.put(repeat, state)

        try:
            yield from retrain(fitting, on, learning_rates, resume_from=store.get(repeat), save=save)
        except CheckpointError as error:
            logger.warning("the retrain starts from epoch 0: %s", error)
            yield from retrain(fitting, on, learning_rates, save=save)

    for _, item in in_memory(config, begin):
        yield item


def _look(config: TrialConfig, trained: TrainedModel) -> Iterator[Look | None]:
    """Say that the look begins, and look at held-out test with a trained model (runs in a Ray task)."""
    from hpo.final.metrics import measure
    from trainables.inference.description import describe
    from trainables.training.held_out_evaluation import look_at_test
    from trainables.training.retraining import load
    from trainables.training.trial import open_training_data

    use_given_cards()
    learner = load(config, trained)
    # Whatever may fail comes before the look.
    classes = open_training_data(config).classes
    described = describe(learner.network.model, config.model, config.data.exif, classes)
    yield None
    seen = look_at_test(learner)
    pairs = zip(seen.ids, seen.labels.tolist(), seen.predicted.tolist(), strict=True)
    yield Look(measure(seen.labels, seen.predicted, seen.classes), seen.classes, tuple(pairs), described)
