"""Everything of Optuna that is not public, with the reason: what a new release of Optuna is checked for first.

Written for Optuna 5.0. Its public ways of creating and reporting a trial draw its parameters themselves and cannot be
repeated when a connection broke in the middle; its storages' methods can, and they take ids, which are not public.
"""

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial
from sqlalchemy import Engine, column, table

STUDY_ATTRIBUTES = table("study_user_attributes", column("study_id"), column("key"), column("value_json"))
"""Where a study's user attributes are, read past Optuna's cache."""


def study_id(study: optuna.Study) -> int:
    """Return a study's key in its database."""
    return study._study_id


def trial_id(trial: FrozenTrial | Trial) -> int:
    """Return a trial's key in its database."""
    return trial._trial_id


def storage_of(study: optuna.Study) -> BaseStorage:
    """Return the storage that a study was created in."""
    return study._storage


def engine_of(storage: BaseStorage) -> Engine:
    """Return the connections to a database, below Optuna's cache of ended trials."""
    backend = getattr(storage, "_backend", storage)
    assert isinstance(backend, RDBStorage)
    return backend.engine
