"""Remove a study: its ledger and its folder."""

import shutil

from hpo import ledger
from hpo.lock import only_writer
from hpo.paths import StudyPaths


def delete(url: str, paths: StudyPaths) -> None:
    """Delete the study at `paths`, unless a process is running it.

    Raises:
        UsageError: There is no such study.
        HpoError: It is being run.
    """
    ledger.open_study(url, paths.name)
    paths.folder.mkdir(parents=True, exist_ok=True)
    with only_writer(paths.lock, paths.name, url):
        ledger.delete(url, paths.name)
        shutil.rmtree(paths.folder)
