"""Remove a study: its ledger and what was written for it."""

import logging

from sqlalchemy import URL

from hpo.ledger import studies as ledger
from hpo.machines.checkpoints import CheckpointPlace
from hpo.paths import StudyPaths
from hpo.studies.owner import owned, remove_files

logger = logging.getLogger(__name__)


def delete(url: str | URL, paths: StudyPaths) -> None:
    """Delete the study at `paths`, unless a process is running it; what else is in its folder stays.

    Raises:
        UsageError: There is no such study.
        HpoError: It is being run.
    """
    with owned(paths, url) as study:
        options, name, key = study.run_options, study.checkpoint_folder, study.key
        ledger.delete(url, paths.name)
        left = remove_files(paths, key)
    if left:
        logger.warning("%s stays, with what is not this study's: %s", paths.folder, ", ".join(left))
    # Of a study that was interrupted; what other machines or a bucket keep of it is out of this machine's hands.
    for folder in (options.checkpoints, None):
        if folder is None or "://" not in folder:
            uri = f"{folder.rstrip('/')}/{name}" if folder else None
            place = CheckpointPlace(name, uri, shared=True, data_dir=options.data_dir)
            place.keep_only(())
            place.of_final.keep_only(())
