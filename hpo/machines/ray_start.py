"""What Ray needs of a machine to start there, and why it did not start, each with the fix."""

import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes of a socket's path."""
LONGEST_FOLDER = _LONGEST_SOCKET - len(f"/ray/session_2026-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store.1")
USUAL = ("/tmp", "/var/tmp")
"""Folders that a system has; where Ray's own folder there is another user's, one of this user's is made."""
_ROOM_MB = 100
"""Ray's logs and sockets; the object store is in /dev/shm."""
_SHARED_MEMORY_MB = 64
_OPEN_FILES = 1024

_CAUSES = (
    (r"AF_UNIX path", f"its folder's path is too long; RAY_TMPDIR names one of at most {LONGEST_FOLDER} bytes"),
    (
        r"Permission denied: '?([^']*)",
        "{0} cannot be written to; change its permissions, or name another by RAY_TMPDIR",
    ),
    (r"No space left", "the disk of its folder is full; make room there, or name another folder by RAY_TMPDIR"),
    (
        r"(?i)name or service not known|name resolution|gaierror",
        "this machine's name has no address; add it to /etc/hosts",
    ),
    (r"Too many open files", f"too few files may be open; `ulimit -n {_OPEN_FILES}` or more"),
    (
        r"(?i)resource temporarily unavailable|can't start new thread|pthread_create",
        "too few processes are allowed; raise `ulimit -u`, or the container's limit of processes",
    ),
    (
        r"(?i)cannot allocate memory|MemoryError|not enough memory|available memory",
        "there is too little memory; close other programs",
    ),
    (r"(?i)address already in use", "a port that it wants is taken; stop other programs of Ray, or try again"),
    (r"(?i)operation not permitted|seccomp", "this container forbids what Ray needs; run it with fewer restrictions"),
    (r"(?i)timed out|timeout", "it took too long; try again when this machine is less busy"),
)


@dataclass(frozen=True)
class Obstacle:
    """Something that keeps Ray from starting."""

    words: str
    fix: str


def ray_folder() -> tuple[str, list[str]]:
    """Return the first folder that Ray can keep its sockets and logs in, and what is wrong with those before it.

    ``$RAY_TMPDIR`` and ``$TMPDIR``, where Ray itself would put them, come first. Where none will do, it is empty.
    """
    wrong: list[str] = []
    own = f"hpo-{os.getuid()}"
    named = [os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), *USUAL, *(f"{one}/{own}" for one in USUAL)]
    for folder in dict.fromkeys(filter(None, named)):
        if not (problem := _unfit(folder, may_make=folder.endswith(own))):
            return folder, wrong
        wrong.append(f"{folder} {problem}")
    return "", wrong


def obstacles() -> list[Obstacle]:
    """Return what would keep Ray from starting on this machine."""
    import resource

    found = []
    folder, wrong = ray_folder()
    if not folder:
        fix = f"RAY_TMPDIR names another, of at most {LONGEST_FOLDER} bytes"
        found.append(Obstacle(f"no folder for its files: {', '.join(wrong)}", fix))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files != resource.RLIM_INFINITY and files < _OPEN_FILES:
        found.append(Obstacle(f"only {files} files may be open", f"`ulimit -Hn {_OPEN_FILES}` or more"))
    return found


def little_shared_memory() -> str:
    """Return how little shared memory is free, where Ray puts its object store on a disk instead; else nothing."""
    shared = Path("/dev/shm")
    free = shutil.disk_usage(shared).free // 2**20 if shared.is_dir() else 0
    return "" if free >= _SHARED_MEMORY_MB else f"{free} MB free in {shared}"


def why_not_started(words: str, folder: str) -> str:
    """Return why Ray does not start on this machine, with the fix.

    Args:
        words: Ray's, a traceback or its last line.
        folder: Where its files are.
    """
    for obstacle in obstacles():
        return f"{obstacle.words}; {obstacle.fix}"
    for pattern, line in _CAUSES:
        if match := re.search(pattern, words):
            return line.format(*match.groups())
    lines = [line.strip() for line in words.splitlines() if line.strip()] or ["it says nothing"]
    return f"{lines[-1][:300]}\nIts logs are in {folder}/ray/session_latest/logs; `hpo doctor` looks at this machine."


def _unfit(folder: str, *, may_make: bool) -> str:
    """Return why a folder cannot hold Ray's files; nothing where it can."""
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        return f"is a path of more than {LONGEST_FOLDER} bytes"
    rays = Path(folder, "ray")
    try:
        if may_make:
            Path(folder).mkdir(mode=0o700, exist_ok=True)
        if not Path(folder).is_dir():
            return "is no folder"
        if may_make and Path(folder).lstat().st_uid != os.getuid():
            return "is another user's"
        # Ray's own folder may be there already, and another user's.
        tempfile.TemporaryFile(dir=rays if rays.exists() else folder).close()
    except OSError as error:
        return f"cannot be written to ({error.strerror})"
    free = shutil.disk_usage(folder).free // 2**20
    return "" if free >= _ROOM_MB else f"has {free} MB free"
