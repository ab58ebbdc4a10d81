"""What Ray's parts in C++ write to stderr past Python and its logging: kept with other packages' warnings.

A process of its own reads this one's stderr and passes on what is not Ray's, so that nothing is lost when this dies:
where it loses Ray's head it is ended by Ray without a word of Python's, which is then said in our words.
"""

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_END = b"\0end of what Ray may write\n"
_RAYS = re.compile(
    rb"\x1b\[\d+m\(|\((raylet|pid|autoscaler|gcs_server|bundle_reservation)|\[20\d\d-\d\d-\d\d[ T][^\]]*\] "
    rb"|\s+@ |\*\*\* SIG|PC: @|[IWEF]\d{4} \d\d:\d\d:|WARNING: All log messages before absl"
)
"""How its messages and the lines of its tracebacks begin."""
_LOST = b"Failed to connect to GCS"
_WORDS = b"error: Ray has died under this command, and ended it; `hpo resume` continues a study.\n"

# Ray is to be found under this name by whoever counts and keeps warnings; its own loggers are silent.
_logger = logging.getLogger("ray's processes")


@contextmanager
def rays_text_aside() -> Iterator[None]:
    """Keep what Ray writes to stderr within the block, as warnings; everything else still appears."""
    real = os.dup(2)
    read, written = os.pipe()
    command = [sys.executable, "-I", "-S", __file__]
    # In a session of its own Ctrl-C does not reach it.
    process = subprocess.Popen(command, stdin=read, stdout=subprocess.PIPE, start_new_session=True)
    os.dup2(written, 2)
    os.close(read)
    os.close(written)
    shown = sys.stderr
    if _descriptor(shown) == 2:
        # What this process itself says goes the short way.
        sys.stderr = os.fdopen(
            os.dup(real), "w", encoding=shown.encoding, errors="backslashreplace", buffering=1, closefd=True
        )
    try:
        yield
    finally:
        if sys.stderr is not shown:
            sys.stderr.close()
            sys.stderr = shown
        os.write(2, _END)
        os.dup2(real, 2)
        os.close(real)
        said, _ = process.communicate()
        for line in said.decode(errors="backslashreplace").splitlines():
            _logger.warning("%s", line)


def _descriptor(stream: object) -> int | None:
    try:
        return stream.fileno() if hasattr(stream, "fileno") else None
    except (io.UnsupportedOperation, ValueError):
        return None


def relay() -> None:
    """Pass stdin on to stderr but for Ray's messages, which go to stdout in the end."""
    kept: list[bytes] = []
    for line in sys.stdin.buffer:
        if line.endswith(_END):
            sys.stdout.buffer.write(b"".join(kept))
            return
        if _RAYS.match(line):
            kept.append(line)
        else:
            os.write(2, line)
    # The other process has died.
    if any(_LOST in line for line in kept):
        os.write(2, b"\x1b[?25h" + _WORDS if os.isatty(2) else _WORDS)


if __name__ == "__main__":
    relay()
