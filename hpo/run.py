"""Studies from their specifications to their summaries: create or open them, run their trials, retrain the best."""

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from hpo import ledger as ledgers
from hpo.errors import HpoError, UsageError
from hpo.export import replace_text, write_study_files
from hpo.interrupts import Interruption, stoppable
from hpo.ledger import Ledger
from hpo.lock import only_writer
from hpo.paths import StudyPaths
from hpo.placement import Placement, place
from hpo.progress import Screen
from hpo.ready import Opened, forget_checkpoints, make_ready, modules_of
from hpo.records import count_states
from hpo.retrain import RetrainOn, begin_retrain
from hpo.session import nodes, ray_session
from hpo.spec import NewStudy, RunOptions
from hpo.study import run_trials
from hpo.summary import summarise
from hpo.trials import StudyRun

logger = logging.getLogger(__name__)

_SAME = ("address", "cpus_per_trial", "gpus_per_trial", "concurrency", "timeout_s")
"""What studies that run together must have in common."""


def start(asked: Sequence[tuple[NewStudy, StudyPaths]], options: RunOptions, url: str) -> list[dict[str, Any]]:
    """Run new studies, or go on with those of that name and specification, and return their summaries.

    Raises:
        UsageError: A study of that name has another specification; none was created.
        InterruptedStudy: The user stopped it.
    """
    for new, paths in asked:
        ledgers.check(url, paths.name, new.spec)
    try:
        with ExitStack() as locks:
            opened = []
            for new, paths in asked:
                paths.folder.mkdir(parents=True, exist_ok=True)
                hold = locks.enter_context(only_writer(paths.lock, paths.name, url))
                ledger = ledgers.create(url, paths.name, new.spec, options, new.splits)
                ledger.hold = hold
                replace_text(paths.splits, new.listing)
                opened.append(Opened(ledger, options, paths))
            return _go(opened)
    finally:
        for _, paths in asked:
            _remove_if_unused(paths)


def resume(studies: Sequence[tuple[Ledger, StudyPaths]], trials: int | None, url: str) -> list[dict[str, Any]]:
    """Go on with studies as they were run last, with their target raised to `trials` where that is given.

    Raises:
        UsageError: `trials` is lower than what a study has.
        InterruptedStudy: The user stopped it.
    """
    for ledger, _ in studies:
        _refuse_to_mix(studies[0][0], ledger)
        if trials is not None and trials < ledger.n_trials:
            raise UsageError(f"study {ledger.name} has {ledger.n_trials} trials already; --trials can only raise that.")
    with ExitStack() as locks:
        opened = []
        for ledger, paths in studies:
            options = ledger.run_options.model_copy(update={"trials": trials} if trials is not None else {})
            paths.folder.mkdir(parents=True, exist_ok=True)
            ledger.hold = locks.enter_context(only_writer(paths.lock, ledger.name, url))
            ledger.run_options = options
            opened.append(Opened(ledger, options, paths))
        return _go(opened)


def retrain_again(
    ledger: Ledger, paths: StudyPaths, url: str, *, seeds: int, top: int, on: RetrainOn
) -> dict[str, Any]:
    """Retrain a study's best configuration once more, and return the study's summary."""
    begun = time.monotonic()
    paths.folder.mkdir(parents=True, exist_ok=True)
    with only_writer(paths.lock, ledger.name, url):
        opened = Opened(ledger, ledger.run_options, paths)
        with _running([opened], f"hpo retrain {ledger.name}") as (runs, placement, _):
            begin_retrain(runs[0], placement, seeds=seeds, top=top, on=on).conclude()
    return summarise(ledger, time.monotonic() - begun)


def _go(opened: Sequence[Opened]) -> list[dict[str, Any]]:
    begun = time.monotonic()
    todo = [one for one in opened if _is_unfinished(one) or (one.options.retrain and one.ledger.final is None)]
    for one in opened:
        if not _is_unfinished(one):
            logger.info(
                "study %s is complete: it has its %d trials; --trials raises that", one.ledger.name, one.ledger.n_trials
            )
    if todo:
        command = f"hpo resume {' '.join(one.ledger.name for one in todo)}"
        with _running(todo, command) as (runs, placement, interruption):
            failures = run_trials(runs, placement, interruption)
            _conclude([run for run in runs if run.ledger.name not in failures], failures)
        *earlier, last = failures.values() or [None]
        for failure in earlier:
            logger.error("error: %s", failure)
        if last is not None:
            raise last
    return [summarise(one.ledger, time.monotonic() - begun) for one in opened]


def _conclude(runs: Sequence[StudyRun], failures: dict[str, HpoError]) -> None:
    """Write the studies' files and retrain the best of each, all at once; add what fails to `failures`."""
    retrains = []
    for run in runs:
        records = run.ledger.records()
        forget_checkpoints(run.checkpoints, frozenset(one.number for one in records if one.state == "RUNNING"))
        write_study_files(run.ledger, run.paths)
        # A study that the end of the time left without an epoch has nothing to retrain, which is no failure.
        if run.options.retrain and any(one.state != "RUNNING" or one.curve for one in records):
            with _noting(failures, run.ledger.name):
                retrains.append(begin_retrain(run, place(run.options, nodes())))
    for retraining in retrains:
        with _noting(failures, retraining.ledger.name):
            retraining.conclude()


@contextmanager
def _noting(failures: dict[str, HpoError], study: str) -> Iterator[None]:
    """Let the other studies end in order where one fails."""
    try:
        yield
    except HpoError as error:
        failures[study] = error


@contextmanager
def _running(opened: Sequence[Opened], command: str) -> Iterator[tuple[list[StudyRun], Placement, Interruption]]:
    """Have Ray up, every node ready and the studies on the screen; `command` is what goes on after an interruption."""
    options = opened[0].options
    modules = modules_of([one.ledger.spec.backbone for one in opened])
    with stoppable(command) as interruption, ray_session(options.address, modules):
        placement = place(options, nodes())
        ready = make_ready(opened, placement)
        with Screen() as screen:
            runs = [
                StudyRun(
                    one.ledger,
                    one.options,
                    one.paths,
                    found.checkpoints,
                    screen.add(one.ledger.name, one.options.trials, one.ledger.records()),
                    found.needs,
                )
                for one, found in zip(opened, ready, strict=True)
            ]
            yield runs, placement, interruption


def _refuse_to_mix(first: Ledger, other: Ledger) -> None:
    """Studies that run together run on the same machines, in the same way.

    Raises:
        UsageError: They were run in different ways; the message names them.
    """
    mine, theirs = first.run_options.model_dump(), other.run_options.model_dump()
    differing = [name for name in _SAME if mine[name] != theirs[name]]
    if differing:
        raise UsageError(
            f"studies {first.name} and {other.name} were run with different {', '.join(differing)}; resume one after"
            " the other."
        )


def _is_unfinished(one: Opened) -> bool:
    return one.ledger.n_trials < one.options.trials or count_states(one.ledger.records())["RUNNING"] > 0


def _remove_if_unused(paths: StudyPaths) -> None:
    """Leave no folder behind where the study could not be created."""
    names = [study.name for study in paths.folder.iterdir()] if paths.folder.exists() else []
    if set(names) <= {paths.lock.name}:
        shutil.rmtree(paths.folder, ignore_errors=True)
