"""The command's first steps, before anything that takes time to import: `hpo`, and ``python -m hpo``."""

import os
import signal
import sys

# Without typing, whose import takes as long as Python's own start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> "NoReturn":
    """Run the command line; whenever Ctrl-C or SIGTERM comes, exit with 130 and no traceback."""
    _open_what_is_closed()
    # Nothing was begun yet; in the middle of an import a KeyboardInterrupt may become any other error.
    _exit_at_a_signal(130, b"interrupted\n")
    from hpo.cli.main import main as command_line

    try:
        command_line()
    except SystemExit as end:
        # All is done but for Python's own last steps, which print a traceback of what interrupts them, and of packages
        # whose import was interrupted.
        sys.unraisablehook = lambda _: None
        _exit_at_a_signal(end.code if isinstance(end.code, int) else 1, b"")
        raise


def _exit_at_a_signal(code: int, words: bytes) -> None:
    def leave(_signal: int, _frame: object) -> None:
        os.write(2, words)
        os._exit(code)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)


def _open_what_is_closed() -> None:
    """Open the standard streams that are closed (``>&-``), lest the first file that is opened becomes one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    from pathlib import Path

    # ``python -m`` looks in the working directory first, where any folder may bear the name of a package.
    if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
        del sys.path[0]
    main()
