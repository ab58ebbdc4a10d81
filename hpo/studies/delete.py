"""Remove a study: its ledger and its folder."""

import shutil

from hpo.ledger import studies as ledger
from hpo.machines.checkpoints import CheckpointPlace
from hpo.paths import StudyPaths
from hpo.studies.owner import owned


def delete(url: str, paths: StudyPaths) -> None:
    """Delete the study at `paths`, unless a process is running it.

    Raises:
        UsageError: There is no such study.
        HpoError: It is being run.
    """
    with owned(paths, url) as study:
        options, name = study.run_options, study.checkpoint_folder
        ledger.delete(url, paths.name)
        shutil.rmtree(paths.folder)
    # Of a study that was interrupted; what other machines or a bucket keep of it is out of this machine's hands.
    for folder in (options.checkpoints, None):
        if folder is None or "://" not in folder:
            uri = f"{folder.rstrip('/')}/{name}" if folder else None
            place = CheckpointPlace(name, uri, shared=True, data_dir=options.data_dir)
            place.keep_only(())
            place.of_final.keep_only(())
