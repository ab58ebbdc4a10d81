"""A study from its specification to its summary: create or open it, run its trials, retrain the best."""

import logging
import shutil
import time
from typing import Any

from hpo import ledger as ledgers
from hpo.errors import UsageError
from hpo.export import replace_text, write_study_files
from hpo.interrupts import stoppable
from hpo.ledger import Ledger
from hpo.lock import only_writer
from hpo.paths import StudyPaths
from hpo.placement import place
from hpo.progress import Progress
from hpo.records import count_states
from hpo.retrain import RetrainOn, retrain
from hpo.session import ray_session
from hpo.spec import NewStudy, RunOptions
from hpo.study import run_trials
from hpo.summary import summarise

logger = logging.getLogger(__name__)


def start(new: NewStudy, options: RunOptions, paths: StudyPaths, url: str) -> dict[str, Any]:
    """Run a new study, or go on with the one of that name and specification, and return its summary.

    Raises:
        UsageError: A study of that name has another specification.
        InterruptedStudy: The user stopped it.
    """
    paths.folder.mkdir(parents=True, exist_ok=True)
    try:
        with only_writer(paths.lock, paths.name, url) as hold:
            ledger = ledgers.create(url, paths.name, new.spec, options, new.splits)
            ledger.hold = hold
            replace_text(paths.splits, new.listing)
            return _go(ledger, options, paths)
    finally:
        _remove_if_unused(paths)


def resume(ledger: Ledger, trials: int | None, paths: StudyPaths, url: str) -> dict[str, Any]:
    """Go on with a study as it was run last, with its target raised to `trials` where that is given.

    Raises:
        UsageError: `trials` is lower than what the study has.
        InterruptedStudy: The user stopped it.
    """
    options = ledger.run_options.model_copy(update={"trials": trials} if trials is not None else {})
    if trials is not None and trials < ledger.n_trials:
        raise UsageError(f"study {ledger.name} has {ledger.n_trials} trials already; --trials can only raise that.")
    paths.folder.mkdir(parents=True, exist_ok=True)
    with only_writer(paths.lock, ledger.name, url) as hold:
        ledger.hold = hold
        ledger.run_options = options
        return _go(ledger, options, paths)


def retrain_again(
    ledger: Ledger, paths: StudyPaths, url: str, *, seeds: int, top: int, on: RetrainOn
) -> dict[str, Any]:
    """Retrain a study's best configuration once more, and return the study's summary."""
    begun = time.monotonic()
    paths.folder.mkdir(parents=True, exist_ok=True)
    with (
        only_writer(paths.lock, ledger.name, url),
        stoppable(f"hpo retrain {ledger.name}"),
        ray_session(ledger.run_options.address) as nodes,
    ):
        retrain(ledger, paths, place(ledger.run_options, nodes), seeds=seeds, top=top, on=on)
    return summarise(ledger, time.monotonic() - begun)


def _go(ledger: Ledger, options: RunOptions, paths: StudyPaths) -> dict[str, Any]:
    begun = time.monotonic()
    unfinished = ledger.n_trials < options.trials or count_states(ledger.records())["RUNNING"] > 0
    stale = ledger.final is None or unfinished
    if not unfinished:
        logger.info("study %s is complete: it has its %d trials; --trials raises that", ledger.name, ledger.n_trials)
    if unfinished or (options.retrain and stale):
        with stoppable(f"hpo resume {ledger.name}") as interruption, ray_session(options.address) as nodes:
            placement = place(options, nodes)
            with Progress(ledger.name, options.trials, ledger.records()) as progress:
                run_trials(ledger, options, paths, placement, progress, interruption)
            write_study_files(ledger, paths)
            if options.retrain:
                retrain(ledger, paths, placement)
    return summarise(ledger, time.monotonic() - begun)


def _remove_if_unused(paths: StudyPaths) -> None:
    """Leave no folder behind where the study could not be created."""
    names = [study.name for study in paths.folder.iterdir()] if paths.folder.exists() else []
    if set(names) <= {paths.lock.name}:
        shutil.rmtree(paths.folder, ignore_errors=True)
