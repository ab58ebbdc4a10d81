"""Remove a study: its ledger and its folder."""

import shutil

from hpo.ledger import ledger
from hpo.ledger.lock import only_writer
from hpo.machines.checkpoints import CheckpointPlace
from hpo.paths import StudyPaths


def delete(url: str, paths: StudyPaths) -> None:
    """Delete the study at `paths`, unless a process is running it.

    Raises:
        UsageError: There is no such study.
        HpoError: It is being run.
    """
    study = ledger.open_study(url, paths.name)
    options, name = study.run_options, study.checkpoint_folder
    paths.folder.mkdir(parents=True, exist_ok=True)
    with only_writer(paths.lock, paths.name, url):
        ledger.delete(url, paths.name)
        shutil.rmtree(paths.folder)
    # Of a study that was interrupted; what other machines or a bucket keep of it is out of this machine's hands.
    for folder in (options.checkpoints, None):
        if folder is None or "://" not in folder:
            uri = f"{folder.rstrip('/')}/{name}" if folder else None
            CheckpointPlace(name, uri, shared=True, data_dir=options.data_dir).keep_only(())
