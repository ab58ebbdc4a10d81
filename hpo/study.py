"""A study from its ledger to its last trial: Ray Tune runs what the ledger hands out."""

import shutil

from ray import tune

from hpo.checkpoints import CheckpointStore
from hpo.errors import HpoError
from hpo.interrupts import Interruption
from hpo.ledger import Ledger
from hpo.paths import StudyPaths
from hpo.placement import Placement
from hpo.rungs import replay_finished, scheduler
from hpo.searcher import LedgerSearch, Listener, RunWatch
from hpo.spec import RunOptions
from hpo.worker import Worker


def run_trials(
    ledger: Ledger,
    options: RunOptions,
    paths: StudyPaths,
    placement: Placement,
    listener: Listener,
    interruption: Interruption,
    trainable: type[tune.Trainable] = Worker,
) -> None:
    """Run the study's trials until it has `options.trials` of them, or its time is over.

    Trials that an earlier run left unfinished go on first. Ray must be up, and the study's lock held.

    Raises:
        HpoError: The study cannot go on: a disk is full, or its first trials all failed alike.
    """
    interrupted = ledger.adopt_interrupted()
    if not interrupted and ledger.n_trials >= options.trials:
        return
    asha = scheduler(ledger.spec, ledger.space.max_epochs)
    replay_finished(asha, ledger.records())
    checkpoints = options.checkpoints or str(paths.checkpoints)
    CheckpointStore(checkpoints).keep_only({record.number for record in interrupted})
    search = LedgerSearch(ledger, options, asha, interrupted, checkpoints, placement, listener)
    try:
        tune.Tuner(
            tune.with_resources(
                trainable,
                lambda config: tune.PlacementGroupFactory(
                    [placement.share(config["trial"].model.freeze_mode).resources]
                ),
            ),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=asha,
                num_samples=-1,
                max_concurrent_trials=placement.concurrency,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(paths.scratch),
                stop=lambda _trial_id, _result: search.stopping,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=options.max_failures),
                callbacks=[RunWatch(search, interruption)],
                verbose=0,
            ),
        ).fit()
    except tune.TuneError as error:
        # Tune wraps what its searcher raises, here about the database.
        if isinstance(error.__context__, HpoError):
            raise error.__context__ from None
        raise
    finally:
        shutil.rmtree(paths.scratch, ignore_errors=True)
    if search.failure is not None:
        raise search.failure
