"""Studies from their specifications to their summaries: create or open them, run their trials, retrain the best."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL

from hpo.choices import RetrainOn
from hpo.errors import HpoError, InterruptedStudy, UsageError
from hpo.final.retrain import begin_retrain, finish_retrains, needs_retrain, nothing_to_retrain
from hpo.interrupts import Interruption, stoppable
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.lock import only_writer
from hpo.ledger.records import best_records, count_states
from hpo.live.progress import Progress
from hpo.live.screen import Screen, shown_on
from hpo.machines.ahead import RayAhead, ray_ahead
from hpo.machines.checkpoints import forget_checkpoints
from hpo.machines.placement import Placement, place
from hpo.machines.session import nodes, ray_session
from hpo.paths import StudyPaths, command
from hpo.spec import NewStudy, RunOptions, trials_of
from hpo.studies.export import replace_text, write_study_files
from hpo.studies.owner import claim, leaving_nothing_unused, owned, remove_files
from hpo.studies.readiness import OpenStudy, make_ready, modules_of, verify
from hpo.tune.trials import StudyRun
from hpo.tune.tuner import run_trials
from hpo.views.summary import duration, summarise
from hpo.views.trainables import use
from trainables.trainable import has_final_model

logger = logging.getLogger(__name__)

_SAME = {
    "address": "--address",
    "cpus_per_trial": "--cpus-per-trial",
    "gpus_per_trial": "--gpus-per-trial",
    "concurrency": "--concurrency",
    "timeout_s": "--timeout",
}
"""What studies that run together must have in common, and its option."""


IN_A_TRIAL = ("hpo.tune.worker", "trainables.training.micro_batches", "trainables.training.trial")
"""What a trial's process imports."""


@dataclass(frozen=True)
class Ended:
    """How studies that ran together ended."""

    summaries: list[dict[str, Any]]
    """Summaries of the studies that reached their end."""
    failures: list[HpoError]
    """Why the others did not."""
    in_time: bool = True
    """Whether none was cut off by the time that it may take."""

    def check(self) -> None:
        """Raise why a study failed, if one did.

        Raises:
            HpoError: The last failure.
        """
        if self.failures:
            raise self.failures[-1]


def start(
    asked: Sequence[tuple[NewStudy, StudyPaths]],
    options: RunOptions,
    url: str | URL,
    screen: Screen | None = None,
    ahead: RayAhead | None = None,
    again: str | None = None,
) -> Ended:
    """Run new studies, or continue those of that name and specification.

    Args:
        asked: The studies and their files.
        options: How they are run.
        url: The ledger's database.
        screen: Where progress is shown, opened by the caller; None: one for these studies.
        ahead: A Ray that is being started; None: none is.
        again: The command that continues them after an interruption; None: ``hpo resume``.

    Raises:
        UsageError: A study of that name has another specification; none was created.
        InterruptedStudy: The user stopped it.
    """
    # Several backbones share their images.
    for line in dict.fromkeys(line for new, _ in asked for line in new.findings):
        logger.info("%s", line)
    existed = {paths.name for new, paths in asked if ledgers.check(url, paths.name, new.spec)}
    with (
        leaving_nothing_unused([paths for _, paths in asked], url),
        shown_on(screen) as shown,
        ExitStack() as locks,
    ):
        opened: list[OpenStudy] = []
        locked: list[StudyPaths] = []
        try:
            for new, paths in asked:
                hold = locks.enter_context(only_writer(paths.lock, paths.name, url))
                locked.append(paths)
                own = options if new.trials is None else options.model_copy(update={"trials": new.trials})
                ledger = ledgers.create(url, paths.name, new.spec, own, new.splits)
                ledger.own(hold)
                opened.append(OpenStudy(ledger, own, paths))
                _claim(opened[-1], is_new=paths.name not in existed)
                replace_text(paths.splits, new.listing)
            ended = _go(opened, shown, ahead, again)
        except BaseException as error:
            if any(one.ledger.n_trials for one in opened):
                raise
            _forget([paths for paths in locked if paths.name not in existed], url)
            if isinstance(error, InterruptedStudy) and not existed:
                raise InterruptedStudy("stopped before the first trial: nothing was kept") from error
            raise
        kept = {*existed, *(summary["study"] for summary in ended.summaries)}
        _forget([one.paths for one in opened if one.ledger.name not in kept and not one.ledger.n_trials], url)
        return ended


def resume(
    studies: Sequence[StudyPaths],
    url: str | URL,
    *,
    trials: int | None,
    address: str | None,
    timeout_s: float | None = None,
    screen: Screen | None = None,
) -> Ended:
    """Continue studies as they were run last, with a higher target, another address or time where these are given.

    `screen` is where progress is shown, opened by the caller; None: one for these studies.

    Raises:
        UsageError: `trials` is lower than what a study has, or the studies were run in different ways.
        InterruptedStudy: The user stopped it.
    """
    with shown_on(screen) as shown, ExitStack() as locks:
        opened = []
        for paths in studies:
            ledger = locks.enter_context(owned(paths, url))
            options = _changed(ledger.run_options, trials=trials, address=address, timeout_s=timeout_s)
            opened.append(OpenStudy(ledger, options, paths))
        for one in opened:
            _refuse_to_mix(opened[0], one)
            if trials is not None and trials < one.ledger.n_trials:
                raise UsageError(
                    f"study {one.ledger.name} has {one.ledger.n_trials} trials already; --trials can only raise that."
                )
            trials_of(one.ledger.spec.search, one.ledger.spec.trainable, trials or one.options.trials)
        todo = [one for one in opened if _has_work(one)]
        with ray_ahead(opened[0].options, IN_A_TRIAL) if todo else nullcontext() as ahead:
            for one in todo:
                verify(one.ledger.spec, one.options)
            for one in opened:
                one.ledger.run_options = one.options
                _claim(one, is_new=False)
            return _go(opened, shown, ahead)


def retrain_again(
    paths: StudyPaths,
    url: str | URL,
    *,
    seeds: int,
    top: int,
    on: RetrainOn,
    address: str | None,
    screen: Screen | None = None,
) -> Ended:
    """Retrain a study's best configuration once more.

    `screen` is where progress is shown, opened by the caller; None: one for this study.

    Raises:
        HpoError: It failed.
    """
    begun = time.monotonic()
    with shown_on(screen) as shown, owned(paths, url) as ledger:
        opened = OpenStudy(ledger, _changed(ledger.run_options, address=address), paths)
        _refuse_without_model(ledger)
        verify(ledger.spec, opened.options)
        options = ("--seeds", str(seeds), "--top", str(top), "--on", on)
        with _running([opened], shown, command("retrain", [paths], *options)) as (runs, placement, interruption):
            retraining = begin_retrain(runs[0], placement, seeds=seeds, top=top, on=on)
            finish_retrains([retraining], interruption.check)
        if retraining.failure is not None:
            raise retraining.failure
        return Ended([summarise(ledger, time.monotonic() - begun)], [])


def _go(opened: Sequence[OpenStudy], screen: Screen, ahead: RayAhead | None, given: str | None = None) -> Ended:
    begun = time.monotonic()
    failures: dict[str, HpoError] = {}
    todo = [one for one in opened if _has_work(one)]
    for one in opened:
        if not _is_unfinished(one):
            more = "" if one.ledger.spec.search.sampler == "grid" else "; --trials raises that"
            logger.info("study %s is complete: it has its %d trials%s", one.ledger.name, one.ledger.n_trials, more)
    if todo:
        again = given or command("resume", [one.paths for one in todo])
        with _running(todo, screen, again, ahead) as (runs, placement, interruption):
            failures = run_trials(runs, placement, interruption)
            _conclude([run for run in runs if run.ledger.name not in failures], failures, interruption)
    for one in opened:
        records = one.ledger.records()
        if records and all(record.state == "FAIL" for record in records):
            failures.setdefault(one.ledger.name, nothing_to_retrain(one.ledger))
    late = [one for one in todo if one.ledger.name not in failures and _is_unfinished(one)]
    if late:
        logger.warning(
            "time is up (--timeout, %s); continue with: %s",
            duration(late[0].options.timeout_s or 0.0),
            given or command("resume", [one.paths for one in late]),
        )
    sound = [one.ledger for one in opened if one.ledger.name not in failures]
    summaries = [summarise(ledger, time.monotonic() - begun) for ledger in sound]
    return Ended(summaries, list(failures.values()), in_time=not late)


def _conclude(runs: Sequence[StudyRun], failures: dict[str, HpoError], interruption: Interruption) -> None:
    """Write the studies' files and retrain the best of each, all at the same time; add errors to `failures`."""
    retrainings = []
    for run in runs:
        records = run.ledger.records()
        forget_checkpoints(run.checkpoints, frozenset(one.number for one in records if one.state == "RUNNING"))
        write_study_files(run.ledger, run.paths)
        if run.options.retrain and needs_retrain(run.ledger):
            retrainings.append(begin_retrain(run, place(run.options, nodes()), on=run.options.retrain_on))
    finish_retrains(retrainings, interruption.check)
    failures |= {one.run.ledger.name: one.failure for one in retrainings if one.failure is not None}


@contextmanager
def _running(
    opened: Sequence[OpenStudy], screen: Screen, command: str, ahead: RayAhead | None = None
) -> Iterator[tuple[list[StudyRun], Placement, Interruption]]:
    """Start Ray, make every node ready and show the studies; `command` continues them after an interruption.

    Raises:
        HpoError: A disk is full or gone, a file cannot be read or written.
    """
    options = opened[0].options
    screen.doing("starting Ray" if options.address == "local" else f"joining the cluster at {options.address}")
    modules = modules_of(
        [name for one in opened for name in (one.ledger.spec.model.backbone, one.ledger.spec.trainable)]
    )
    begun = ahead.wait if ahead else None
    with stoppable(command) as interruption, ray_session(options.address, modules, begun):
        found = nodes()
        placement = place(options, found)
        if options.address != "local" or placement.cards_gb:
            screen.doing(f"making {len(found)} node{'s' if len(found) > 1 else ''} ready")
        ready = make_ready(opened, placement)
        with _continued_by(command, opened):
            shown = [Progress(screen, one.ledger, one.options, alone=len(opened) == 1) for one in opened]
            for one in shown:
                screen.add(one)
            yield (
                [
                    StudyRun(one.ledger, one.options, one.paths, known.checkpoints, progress, known.needs)
                    for one, known, progress in zip(opened, ready, shown, strict=True)
                ],
                placement,
                interruption,
            )


@contextmanager
def _continued_by(command: str, opened: Sequence[OpenStudy]) -> Iterator[None]:
    """Say of what this machine's system refuses which command continues once that is fixed."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        again = f"; fix that, then continue with: {command}" if any(one.ledger.n_trials for one in opened) else ""
        raise HpoError(f"{what}{again}") from error


def _claim(one: OpenStudy, *, is_new: bool) -> None:
    aside = claim(one.paths, one.ledger.key, is_new=is_new)
    if aside is not None:
        logger.warning("study %s: another study of that name left files, which are now in %s", one.ledger.name, aside)


def _changed(options: RunOptions, **changes: Any) -> RunOptions:
    return options.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _refuse_to_mix(first: OpenStudy, other: OpenStudy) -> None:
    """Studies that run together run on the same machines, in the same way.

    Raises:
        UsageError: They were run in different ways; the message names them.
    """
    mine, theirs = first.options, other.options
    differing = [option for name, option in _SAME.items() if getattr(mine, name) != getattr(theirs, name)]
    if differing:
        raise UsageError(
            f"studies {first.ledger.name} and {other.ledger.name} were run with different {', '.join(differing)};"
            " resume one after the other."
        )


def _refuse_without_model(ledger: Ledger) -> None:
    """Say of a study whose trainable has no final model what to do instead.

    Raises:
        UsageError: It has none.
    """
    name = ledger.spec.trainable
    if not has_final_model(name):
        best = best_records(ledger.records(), 1)
        raise UsageError(f"study {ledger.name}: {name} has no final model; {use(ledger, best[0] if best else None)}")


def _has_work(one: OpenStudy) -> bool:
    return _is_unfinished(one) or (one.options.retrain and needs_retrain(one.ledger))


def _is_unfinished(one: OpenStudy) -> bool:
    return one.ledger.n_trials < one.options.trials or count_states(one.ledger.records())["RUNNING"] > 0


def _forget(studies: Sequence[StudyPaths], url: str | URL) -> None:
    """Remove studies that this run created, and that have no trial."""
    for paths in studies:
        # A database that cannot be used keeps it, and is the error that is being reported.
        with suppress(HpoError):
            key = ledgers.delete_unbegun(url, paths.name)
            if key is not None:
                remove_files(paths, key)
