"""A study that this process alone writes: locked first, then opened, then stamped."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from hpo.ledger.ledger import Ledger
from hpo.ledger.lock import only_writer
from hpo.ledger.studies import open_study
from hpo.paths import StudyPaths


@contextmanager
def owned(paths: StudyPaths, url: str) -> Iterator[Ledger]:
    """Hold a study's locks and yield its ledger as the last writer left it; only this process can write it now.

    Raises:
        UsageError: There is no such study; no folder was made for it.
        HpoError: Another process runs it, or the database cannot be used.
    """
    # Opened to learn whether it is there, before a folder is made for its lock.
    open_study(url, paths.name)
    paths.folder.mkdir(parents=True, exist_ok=True)
    try:
        with only_writer(paths.lock, paths.name, url) as hold:
            ledger = open_study(url, paths.name)
            ledger.own(hold)
            yield ledger
    finally:
        remove_if_unused(paths)


def remove_if_unused(paths: StudyPaths) -> None:
    """Remove a study's folder that holds nothing but a lock that nobody has."""
    names = [study.name for study in paths.folder.iterdir()] if paths.folder.exists() else []
    if set(names) <= {paths.lock.name}:
        shutil.rmtree(paths.folder, ignore_errors=True)
