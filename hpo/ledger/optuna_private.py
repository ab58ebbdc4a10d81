"""Everything of Optuna that is not public, with the reason: what a new release of Optuna is checked for first.

Written for Optuna 5.0. Its public ways of creating and reporting a trial draw its parameters themselves and cannot be
repeated when a connection broke in the middle; its storages' methods can, and they take ids, which are not public.
"""

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial
from sqlalchemy import Engine, String, cast, column, func, select, table

STUDY_ATTRIBUTES = table("study_user_attributes", column("study_id"), column("key"), column("value_json"))
"""Where a study's user attributes are, read past Optuna's cache."""

_TRIALS = table("trials", column("trial_id"), column("study_id"), column("state"))
_VALUES = table("trial_values", column("trial_id"), column("value"))
"""Optuna counts trials, and finds the best, by reading all of them: 2 ms each with a curve."""


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


def state_counts(storage: BaseStorage, study: int) -> dict[str, int]:
    """Return how many trials of the study with key `study` are in each of Optuna's states; none are left out."""
    query = select(_TRIALS.c.state, func.count()).where(_TRIALS.c.study_id == study).group_by(_TRIALS.c.state)
    with engine_of(storage).connect() as connection:
        return {str(state): int(count) for state, count in connection.execute(query)}


def best_value(storage: BaseStorage, study: int) -> float | None:
    """Return the highest value of a COMPLETE trial of the study with key `study`; None: it has none."""
    query = (
        select(func.max(_VALUES.c.value))
        .join(_TRIALS, _TRIALS.c.trial_id == _VALUES.c.trial_id)
        # PostgreSQL keeps states as a type of its own, which is no text.
        .where(_TRIALS.c.study_id == study, cast(_TRIALS.c.state, String) == "COMPLETE")
    )
    with engine_of(storage).connect() as connection:
        value: float | None = connection.execute(query).scalar()
    return value
