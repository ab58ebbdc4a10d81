"""Ray's start on this machine: where its files go, who may read its token, and why it fails."""

import os
import sys
from pathlib import Path

import pytest
import ray

from hpo.machines import ray_start
from hpo.machines.ray_start import LONGEST_FOLDER, Obstacle, obstacles, ray_folder, why_not_started
from hpo.machines.session import ray_session
from hpo.machines.tokens import environment, guard_token
from hpo.studies import doctor


@pytest.fixture
def no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder but those that the test names."""
    monkeypatch.setattr(ray_start, "USUAL", ())


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_that_ray_cannot_use_is_passed_over_and_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for folder, problem in (
        ("/" + "a" * LONGEST_FOLDER, f"is a path of more than {LONGEST_FOLDER} bytes"),
        ("/nonexistent", "is no folder"),
        ("/proc", "cannot be written to"),
    ):
        monkeypatch.setenv(name, folder)

        found, wrong = ray_folder()

        assert found in ("/tmp", f"/tmp/hpo-{os.getuid()}")
        assert problem in wrong[0]
        check = doctor.rays_start()
        assert (check.verdict, problem in check.words) == ("warn", True)


@pytest.mark.usefixtures("no_other")
def test_where_no_folder_will_do_the_cause_and_the_fix_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/nonexistent")
    monkeypatch.setenv("TMPDIR", "/proc")

    (found,) = obstacles()

    assert "/nonexistent is no folder, /proc cannot be written to" in found.words
    assert why_not_started("anything", "") == f"{found.words}; {found.fix}"
    assert doctor.rays_start().verdict == "fail"


def test_a_full_disk_and_few_files_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_start, "_ROOM_MB", 10**9)
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, 64))

    full, few = obstacles()

    assert "MB free" in full.words
    assert few == Obstacle("only 64 files may be open", "`ulimit -Hn 1024` or more")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("OSError: AF_UNIX path length cannot exceed 107 bytes: /x", "too long; RAY_TMPDIR names one of at most"),
        ("PermissionError: [Errno 13] Permission denied: '/x/ray'", "/x/ray cannot be written to; change its perm"),
        ("OSError: [Errno 28] No space left on device", "is full; make room"),
        ("socket.gaierror: [Errno -2] Name or service not known", "has no address; add it to /etc/hosts"),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "`ulimit -u`"),
        ("RuntimeError: can't start new thread", "`ulimit -u`"),
        ("something new\nand its last line", "and its last line\nIts logs are in /f/ray/session_latest/logs"),
    ],
)
def test_what_ray_says_becomes_a_cause_with_its_fix(words: str, said: str) -> None:
    assert said in why_not_started(words, "/f")


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_token_is_its_owners_from_the_start_or_made_so(
    mode: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    file = tmp_path / ".ray" / "auth_token"
    if mode is not None:
        file.parent.mkdir(mode=0o755)
        file.write_text("a" * 64, "utf-8")
        file.chmod(mode)

    guard_token()

    assert [path.stat().st_mode & 0o777 for path in (file.parent, file)] == [0o700, 0o600]
    assert len(file.read_text("utf-8")) == 64
    assert mode is None or file.read_text("utf-8") == "a" * 64


def test_statistics_are_off_for_what_hpo_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")

    assert environment()["RAY_USAGE_STATS_ENABLED"] == "0"


def _seen() -> tuple[list[str], str | None, str]:
    return sys.path, os.environ.get("RAY_USAGE_STATS_ENABLED"), os.environ["RAY_TMPDIR"]


def test_a_session_looks_here_for_no_package_and_sends_no_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_TMPDIR", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", "/" + "a" * LONGEST_FOLDER)
    here = [path for path in sys.path if path]

    with ray_session("local"):
        paths, statistics, folder = ray.get(ray.remote(num_cpus=0)(_seen).remote())

    assert paths[: len(here)] == here
    assert str(tmp_path) not in paths
    assert statistics == "0"
    assert len(folder) <= LONGEST_FOLDER
