"""A home folder for users who have none that can be written to, as in containers: Ray and others need one."""

import logging
import os
import tempfile
from pathlib import Path

logger = logging.getLogger("hpo")


def ensure_home() -> None:
    """Let a folder of this user's among the temporary ones stand in for a home that is missing or cannot be written to.

    Raises:
        OSError: No temporary folder can be written to either.
    """
    home = _home()
    if home is not None and os.access(home / ".ray" if (home / ".ray").exists() else home, os.W_OK):
        return
    instead = Path(tempfile.gettempdir()) / f"hpo-home-{os.getuid()}"
    try:
        instead.mkdir(mode=0o700, exist_ok=True)
        # Whoever made it before us would read the token that is kept there.
        safe = instead.lstat().st_uid == os.getuid() and instead.lstat().st_mode & 0o777 == 0o700
    except OSError:
        safe = False
    if not safe:
        instead = Path(tempfile.mkdtemp(prefix="hpo-home-"))
    if home is not None and os.access(home / ".cache", os.W_OK):
        os.environ.setdefault("XDG_CACHE_HOME", str(home / ".cache"))
    os.environ["HOME"] = str(instead)
    logger.warning(
        "%s: %s stands in for it; HOME names another, and --data-dir or HPO_DATA_DIR a lasting place for data",
        "no home folder" if home is None else f"the home folder, {home}, cannot be written to",
        instead,
    )


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None
