"""The files that the dashboard shows: a trial's curves, drawn when asked for, and what a study's folder holds."""

import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpo.ledger.records import TrialRecord
from hpo.paths import StudyPaths
from hpo.views import curves

_TEXTS = {".toml": "text/plain", ".md": "text/plain", ".txt": "text/plain", ".csv": "text/csv"}
_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True)
class Artifact:
    """A file to be shown or downloaded."""

    key: str
    """Its name in addresses. It changes with what the file holds, so that pages fetch it anew."""
    filename: str
    read: Callable[[], bytes]

    @property
    def mimetype(self) -> str:
        """Its kind, by its name."""
        guessed = _TEXTS.get(Path(self.filename).suffix) or mimetypes.guess_type(self.filename)[0]
        return guessed or _UNKNOWN

    @property
    def is_picture(self) -> bool:
        """Whether a page can show it."""
        return self.mimetype.startswith("image/")


def of_trial(record: TrialRecord) -> list[Artifact]:
    """Return a trial's curves as a picture and as a table; none before its first epoch."""
    if not record.curve:
        return []
    # Their first part names the trial to whoever serves them.
    key, name = f"{record.number}-{len(record.curve)}-{record.state}", f"trial-{record.number}"
    return [
        Artifact(f"{key}-curves", f"{name}-curves.png", lambda: curves.draw_curves(record)),
        Artifact(f"{key}-epochs", f"{name}-epochs.csv", lambda: curves.epochs_as_csv(record).encode()),
    ]


def of_study(paths: StudyPaths) -> list[Artifact]:
    """Return the files that a study's folder has by now, pictures first: of its trials, final model and report."""
    files = [paths.best, paths.trials, *(file for folder in (paths.final, paths.report) for file in _files(folder))]
    found = [_of_file(file, paths.folder) for file in files if file.is_file()]
    return sorted(found, key=lambda one: not one.is_picture)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _of_file(file: Path, folder: Path) -> Artifact:
    name = file.relative_to(folder).as_posix()
    # In the study's own folder names are hpo's, so that they may stand in an address.
    return Artifact(f"{name.replace('/', '-')}-{file.stat().st_mtime_ns}", name, file.read_bytes)
