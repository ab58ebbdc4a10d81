"""Whatever a command ends with: one or two lines, an exit code, and a file for the rest."""

import errno
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.cli.guard import Aside, guarded
from hpo.errors import HpoError
from hpo.machines.session import ray_session
from search_spaces import SpaceError
from trainables.data.datasets import ChangedImagesError

ROOT = Path(__file__).parents[3]


def raising(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (HpoError("no"), 1, "error: no"),
        (SpaceError("s.toml: no"), 2, "error: s.toml: no"),
        (ChangedImagesError("other images"), 2, "error: other images"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "error: No space left on device: /x; make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "error: Permission denied: /x; change its perm"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(3), 3, ""),
    ],
)
def test_what_is_foreseen_is_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert guarded(raising(error), Aside(), debug=False) == code

    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == bool(said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "KeyError: 'x'\nthis is a defect of hpo"),
        (RecursionError("too deep"), "RecursionError: too deep\nthis is a defect of hpo"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), "this is a defect of hpo"),
        (MemoryError(), "MemoryError\nthis machine has not enough memory"),
        (ModuleNotFoundError("No module named 'torch'"), "install hpo again"),
    ],
)
def test_what_is_not_foreseen_is_two_lines_and_a_traceback_for_its_owner_alone(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert guarded(raising(error), Aside(), debug=False) == 1

    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert err.count("\n") == 2
    (kept,) = tmp_path.iterdir()
    assert f"its traceback is in {kept}" in err
    assert "Traceback" in kept.read_text("utf-8")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_warnings_of_other_packages_are_counted_and_kept(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    aside = Aside()

    def command() -> None:
        for name in ("PIL", "py.warnings", "hpo.tune", "trainables.data"):
            aside.handle(logging.makeLogRecord({"name": name, "levelno": logging.WARNING, "msg": f"of {name}"}))

    with caplog.at_level(logging.INFO, "hpo"):
        assert guarded(command, aside, debug=False) == 0

    (kept,) = tmp_path.iterdir()
    assert kept.read_text("utf-8") == "PIL: of PIL\npy.warnings: of py.warnings\n"
    assert caplog.messages == [f"2 warnings of other packages: {kept}"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_error_that_an_interruption_became_is_an_interruption(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def importing() -> None:
        try:
            os.kill(os.getpid(), number)
            threading.Event().wait(10)
        except KeyboardInterrupt as error:
            raise ImportError("numpy could not be imported") from error

    assert guarded(importing, Aside(), debug=False) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_ray_that_takes_sigterm_for_itself_while_it_starts_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(10)

    monkeypatch.setattr("ray.init", start)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)

    def command() -> None:
        with ray_session("local"):
            pass

    assert guarded(command, Aside(), debug=False) == 130
    assert capsys.readouterr().err == "interrupted\n"


def hpo(*arguments: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    return shell(f'"{sys.executable}" -m hpo {" ".join(arguments)}', **settings)


def shell(line: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, timeout=60, check=False)


def test_a_signal_while_python_imports_says_interrupted() -> None:
    script = (
        "import os, signal, sys, types\n"
        "from hpo import __main__\n"
        "class Slow:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "__main__.main()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (130, b"interrupted\n")


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        (">&-", 0, rb""),
        (">&- 2>&- <&-", 0, rb""),
        ("> /dev/full", 1, rb"error: No space left on device; .*"),
        ("| true; exit ${PIPESTATUS[0]}", 1, rb""),
    ],
    ids=["closed", "all closed", "full", "reader gone"],
)
def test_an_output_that_takes_nothing_is_no_traceback(where: str, code: int, said: bytes) -> None:
    # Its output is longer than a pipe's buffer of Python's, so the reader is gone when it is written.
    done = shell(f'"{sys.executable}" -m hpo run --help {where}')

    assert done.returncode == code
    assert re.fullmatch(said, done.stderr.strip())


@pytest.mark.parametrize("arguments", [("--version",), ("-V",)])
def test_the_version_is_shown_by_python_m_too(arguments: tuple[str, ...]) -> None:
    assert hpo(*arguments).stdout.startswith(b"hpo ")


@pytest.mark.parametrize(
    ("name", "encoding", "shown"), [("猫", "ascii", b"\\u732b"), (os.fsdecode(b"\xff"), "utf-8", b"\\udcff")]
)
def test_a_name_that_the_terminal_lacks_or_that_is_no_text_is_shown_escaped(
    name: str, encoding: str, shown: bytes, tmp_path: Path
) -> None:
    done = hpo("status", "ghost", PYTHONIOENCODING=encoding, HPO_STUDIES_DIR=str(tmp_path / name))

    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert shown in done.stderr


def test_what_a_thread_or_a_finaliser_raises_is_kept_and_not_shown(tmp_path: Path) -> None:
    script = (
        "import sys, threading\n"
        "from hpo.cli.guard import Aside\n"
        "class Bad:\n"
        "    def __del__(self): raise ValueError('of a finaliser')\n"
        "def fail(): raise ValueError('of a thread')\n"
        "aside = Aside()\n"
        "aside.catch()\n"
        "Bad()\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "print(aside.count)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == (b"2\n", b"")
    (kept,) = tmp_path.iterdir()
    assert "of a finaliser" in kept.read_text("utf-8")
    assert "of a thread" in kept.read_text("utf-8")


def test_a_command_that_typer_ends_for_an_interruption_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(10)
        except KeyboardInterrupt:
            return 130
        return 0

    assert guarded(command, Aside(), debug=False) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_folder_here_stands_in_for_no_package(tmp_path: Path) -> None:
    for name in ("search_spaces", "trainables", "typer", "rich", "torch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the folder here was imported')", "utf-8")

    done = shell(f'cd "{tmp_path}" && "{sys.executable}" -m hpo status')

    assert done.returncode == 0, done.stderr


def test_a_user_without_a_home_gets_one(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from hpo.cli.home import ensure_home\n"
        "ensure_home()\n"
        "home = Path.home()\n"
        "(home / 'x').touch()\n"
        "print(oct(home.stat().st_mode & 0o777), home.parent)\n"
    )
    settings = {"HOME": "/nonexistent", "TMPDIR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == f"0o700 {tmp_path}\n", done.stderr
