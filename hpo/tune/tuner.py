"""Studies from their ledgers to their last trials: Ray Tune runs what the ledgers hand out."""

import shutil
from collections.abc import Sequence
from typing import Any

from ray import tune

from hpo.errors import DeadEndError, HpoError
from hpo.interrupts import Interruption
from hpo.machines.placement import Placement
from hpo.machines.ray_private import preferring_node
from hpo.tune.rungs import EachStudysRungs, replay, scheduler
from hpo.tune.searcher import LedgerSearch, RunWatch
from hpo.tune.trials import StudyRun, StudyTrials
from hpo.tune.worker import Worker


def run_trials(
    runs: Sequence[StudyRun],
    placement: Placement,
    interruption: Interruption,
    trainable: type[tune.Trainable] = Worker,
) -> dict[str, HpoError]:
    """Run the studies' trials, one study's after the other's, until each has as many as its options ask for.

    Trials that an earlier run left unfinished continue first. The last trials of one study run beside the first of the
    next. Ray must be up, and the studies' locks held.

    Returns:
        Why studies could not continue, by name: a disk is full, a card is gone, the first trials all failed alike.

    Raises:
        HpoError: No study can continue: Ray died, or the database is unreachable.
    """
    studies = [StudyTrials(run) for run in runs]
    if not any(study.left for study in studies):
        return {}
    rungs = {run.ledger.name: scheduler(run.ledger.spec.search, run.ledger.space.max_epochs) for run in runs}
    for run in runs:
        replay(rungs[run.ledger.name], run.ledger.records())
    options, scratch = runs[0].options, runs[0].paths.scratch
    search = LedgerSearch(studies, placement, options.timeout_s)
    try:
        tune.Tuner(
            tune.with_resources(trainable, _resources),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=EachStudysRungs(rungs),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch),
                stop=lambda trial_id, _result: search.stopping(trial_id),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                # The searcher hands out failed trials again, since it alone knows whether the trial was the cause.
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[RunWatch(search, options, interruption)],
                verbose=0,
            ),
        ).fit()
    except (HpoError, OSError, tune.TuneError) as error:
        # Tune wraps what its searcher raises, here about the database, and what it finds wrong with its own folder.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, HpoError | OSError):
            cause = cause.__context__
        if cause is None:
            raise
        if not isinstance(cause, DeadEndError):
            raise cause from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {study.ledger.name: study.failure for study in studies if study.failure is not None}


def _resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Return the resources that a trial asks for; if one machine alone has its checkpoint, preferably there."""
    bundles = [config["resources"].resources]
    if config["node"] is None:
        return tune.PlacementGroupFactory(bundles)
    return preferring_node(bundles, config["node"])
