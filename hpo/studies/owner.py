"""A study that this process alone writes: locked first, then opened, then stamped; and the folder that is its own."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL

from hpo.errors import HpoError
from hpo.ledger.ledger import Ledger
from hpo.ledger.lock import only_writer
from hpo.ledger.storage import missing_sqlite_file
from hpo.ledger.studies import open_study, remove_empty_file
from hpo.paths import StudyPaths


@contextmanager
def owned(paths: StudyPaths, url: str | URL) -> Iterator[Ledger]:
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


def claim(paths: StudyPaths, key: str, *, is_new: bool) -> Path | None:
    """Mark a study's folder as its own, and move aside what another study left there; the caller holds the lock.

    That other one had the same name and was deleted or renamed by another program, which does not know of the folder.
    A folder without a mark is another study's if this one `is_new`, else this one's, from before folders were marked.

    Returns:
        Where the other study's files are now; None: there were none.
    """
    found = _key_of(paths)
    if found == key:
        return None
    left = [path for path in paths.written if path.exists()] if is_new or found is not None else []
    aside = None
    if left:
        aside = _unused(paths.folder / f"earlier-{found or 'study'}")
        aside.mkdir()
        for path in left:
            path.rename(aside / path.name)
    paths.marker.write_text(key, encoding="utf-8")
    return aside


def remove_files(paths: StudyPaths, key: str) -> list[str]:
    """Remove what was written for the study of that key, and return the names of what stays in its folder.

    Where the folder is another study's, it stays as it is. The caller holds the lock, which goes, too.
    """
    if _key_of(paths) in (None, key):
        for path in (*paths.written, paths.marker, *paths.folder.glob(f"{paths.lock.name}*")):
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
    return sorted(path.name for path in paths.folder.iterdir() if not path.name.startswith(paths.lock.name))


def remove_if_unused(paths: StudyPaths) -> None:
    """Remove a study's folder that holds nothing but a lock that nobody has: its holder writes its name beside it."""
    inside = list(paths.folder.iterdir()) if paths.folder.is_dir() else []
    if set(inside) <= {paths.lock}:
        paths.lock.unlink(missing_ok=True)
        # It may be a link to another place, which stays.
        with suppress(OSError):
            paths.folder.rmdir()


@contextmanager
def leaving_nothing_unused(studies: Sequence[StudyPaths], url: str | URL) -> Iterator[None]:
    """Make the folders of studies that are to begin, and remove in the end what holds nothing.

    That is each study's folder, the folders above it and an SQLite database, where they were not there before.
    """
    folder = studies[0].studies
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    is_first = missing_sqlite_file(url)
    try:
        for paths in studies:
            paths.folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for paths in studies:
            remove_if_unused(paths)
        # One that cannot be read is the error that is being reported.
        with suppress(HpoError):
            if is_first:
                remove_empty_file(url)
        with suppress(OSError):
            for one in made:
                one.rmdir()


def _key_of(paths: StudyPaths) -> str | None:
    """The key of the study that a folder belongs to; None: it does not say."""
    try:
        return paths.marker.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _unused(path: Path) -> Path:
    """The path itself, or with a number that makes it new."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in range(2, 1_000_000))
    return path if not path.exists() else next(one for one in numbered if not one.exists())
