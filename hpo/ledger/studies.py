"""The studies of a database: created, found, listed, deleted."""

import logging
import secrets
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from sqlalchemy import URL

from hpo.addresses import sqlite_file
from hpo.errors import HpoError, NotOursError, UsageError
from hpo.ledger.ledger import KEY, RUN, SPEC, SPLITS, Ledger, stored_spec
from hpo.ledger.storage import connect, missing_sqlite_file, opening
from hpo.spec import RunOptions, StudySpec, differences

logger = logging.getLogger(__name__)


def create(url: str | URL, name: str, spec: StudySpec, options: RunOptions, splits: dict[str, Any]) -> Ledger:
    """Create study `name`, or open it where it exists with the same specification.

    Raises:
        UsageError: The study exists with another specification; the message names each difference.
        HpoError: The database cannot be used.
    """
    storage = connect(url)
    with opening(url):
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        if not _is_whole(study):
            study.set_user_attr(KEY, secrets.token_hex(4))
            study.set_user_attr(SPLITS, splits)
            study.set_user_attr(RUN, options.model_dump())
            study.set_user_attr(SPEC, spec.model_dump(mode="json"))
        ledger = Ledger(study, storage)
    _refuse_another(ledger, spec)
    ledger.run_options = options.model_copy(update={"trials": max(options.trials, ledger.n_trials)})
    return ledger


def check(url: str | URL, name: str, spec: StudySpec) -> bool:
    """Make sure that study `name` can be created, or exists with the same specification; nothing is written.

    Returns:
        Whether it exists.

    Raises:
        UsageError: The study exists with another specification, each difference of which the message names, or another
            program made it.
        HpoError: The database cannot be used.
    """
    with opening(url):
        found = _found(url, name)
        if found is not None and _is_whole(found[0]):
            _refuse_another(Ledger(*found), spec)
        return found is not None


def _is_whole(study: optuna.Study) -> bool:
    """Return whether a study has its specification; if not, its creation was cut short.

    Raises:
        UsageError: It is another program's.
    """
    if SPEC in study.user_attrs:
        return True
    begun = set(study.user_attrs) <= {KEY, SPLITS, RUN} and study.directions == [StudyDirection.MAXIMIZE]
    if not begun or study.get_trials(deepcopy=False):
        raise UsageError(
            f"study {study.study_name} is in this database, but was not made by hpo (it carries no specification);"
            " give this run another --study name."
        )
    return False


def recorded_spec(url: str | URL, name: str) -> StudySpec | None:
    """Return the specification of study `name`; None: there is no such study yet."""
    with opening(url):
        found = _found(url, name)
        attributes = found[0].user_attrs if found is not None else {}
        return stored_spec(attributes, name) if SPEC in attributes else None


def open_study(url: str | URL, name: str) -> Ledger:
    """Open study `name`.

    Raises:
        UsageError: There is no such study.
        HpoError: The database cannot be used.
    """
    storage = connect(url, must_exist=True)
    with opening(url):
        names = _names(storage)
        if name not in names:
            known = ", ".join(sorted(names)) or "none yet"
            raise UsageError(f"there is no study {name}; the studies here are: {known}.")
        return _load(storage, name)


def find(storage: BaseStorage, study_id: int) -> Ledger | None:
    """Return a study of an open database by its row there; None: it is not there, or not one that hpo can read."""
    try:
        study = optuna.load_study(study_name=storage.get_study_name_from_id(study_id), storage=storage)
    except KeyError:
        return None
    return _readable(study, storage)


def key(storage: BaseStorage, study_id: int) -> str | None:
    """Return what tells a study from one that takes its row after it was deleted; None: no study of hpo's is there.

    It is read past Optuna's cache, which keeps the trials of a deleted study and shows them as the new one's.
    """
    try:
        found: str | None = storage.get_study_user_attrs(study_id).get(KEY)
    except KeyError:
        return None
    return found


def list_studies(url: str | URL) -> list[Ledger]:
    """Return all studies of the database that hpo made, by name; none where there is no database yet."""
    if missing_sqlite_file(url):
        return []
    storage = connect(url)
    with opening(url):
        studies = [optuna.load_study(study_name=name, storage=storage) for name in sorted(_names(storage))]
        return [ledger for study in studies if (ledger := _readable(study, storage)) is not None]


def _readable(study: optuna.Study, storage: BaseStorage) -> Ledger | None:
    """Return the ledger of a study; None: hpo did not make it, or this version of it cannot read it."""
    try:
        return Ledger(study, storage)
    except NotOursError:
        return None
    except HpoError as error:
        logger.warning("left out: %s", error)
        return None


def delete(url: str | URL, name: str) -> None:
    """Delete study `name` and its trials from the database.

    Raises:
        HpoError: The database cannot be used.
    """
    storage = connect(url, must_exist=True)
    with opening(url):
        optuna.delete_study(study_name=name, storage=storage)


def delete_unbegun(url: str | URL, name: str) -> str | None:
    """Delete study `name` if it has no trial.

    Returns:
        Its key; None: it had none yet, it is not there, or it has a trial.

    Raises:
        HpoError: The database cannot be used.
    """
    with opening(url):
        found = _found(url, name)
        if found is None or found[0].get_trials(deepcopy=False):
            return None
        key: str | None = found[0].user_attrs.get(KEY)
        optuna.delete_study(study_name=name, storage=found[1])
        return key


def remove_empty_file(url: str | URL) -> None:
    """Remove the file of an SQLite database that holds no study, as one that was made for a study that failed.

    Raises:
        HpoError: It cannot be read, and stays.
    """
    path = sqlite_file(url)
    if path is not None and path.exists() and not (path.stat().st_size and _names(connect(url))):
        for file in (path, path.with_name(f"{path.name}-journal")):
            file.unlink(missing_ok=True)


def _refuse_another(ledger: Ledger, spec: StudySpec) -> None:
    differing = differences(ledger.spec, spec)
    if differing:
        listed = "\n  ".join(differing)
        raise UsageError(
            f"study {ledger.name} exists with another specification; give this run another --study name,"
            f" or delete the study with `hpo delete {ledger.name}`:\n  {listed}"
        )


def _found(url: str | URL, name: str) -> tuple[optuna.Study, BaseStorage] | None:
    """Return a study of whichever program and its open database; None: there is none, or no database yet."""
    if missing_sqlite_file(url):
        return None
    storage = connect(url)
    return (optuna.load_study(study_name=name, storage=storage), storage) if name in _names(storage) else None


def _names(storage: BaseStorage) -> list[str]:
    return list(optuna.get_all_study_names(storage))


def _load(storage: BaseStorage, name: str) -> Ledger:
    return Ledger(optuna.load_study(study_name=name, storage=storage), storage)
