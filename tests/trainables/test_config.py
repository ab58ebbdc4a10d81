"""The data folder is where the user says, else where earlier data lies, else where this system keeps caches."""

import pwd
import sys
from pathlib import Path

import pytest

from trainables.config import data_root
from trainables.errors import InputError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder in which nothing is set."""
    for name in ("HPO_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_what_the_user_names_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_DATA_DIR", "~/set")

    assert data_root(None) == home / "set"
    assert data_root("named") == Path.cwd() / "named"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have folders of their own")
def test_the_default_is_the_systems_folder_for_caches(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_root(None) == home / ".cache" / "hpo"

    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    assert data_root(None) == home / "elsewhere" / "hpo"


def test_data_of_an_earlier_version_stays_in_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    (home / ".cache" / "hpo").mkdir(parents=True)

    assert data_root(None) == home / ".cache" / "hpo"


def test_a_user_without_a_home_is_asked_to_name_a_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_entry(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_entry)

    assert data_root(str(home)) == home
    with pytest.raises(InputError, match="name one with --data-dir or HPO_DATA_DIR"):
        data_root(None)
