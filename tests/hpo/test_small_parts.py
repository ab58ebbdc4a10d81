"""Checkpoints, metrics, names, durations: small parts with one promise each."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo.cli.groups import parse_duration
from hpo.errors import NoPlaceError, UsageError
from hpo.final.metrics import measure
from hpo.final.significance import wilson_interval
from hpo.machines import checkpoints
from hpo.machines.checkpoints import CheckpointStore, checked_place, take_probes, try_place, write_probe
from hpo.paths import StudyPaths, check_study_name, command, located_by
from hpo.spec import differences
from tests.makers import study_spec


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_checkpoint_is_kept_replaced_and_forgotten(kind: str, tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path / "c") if kind == "folder" else "memory://checkpoints/study")

    missing = store.get(3)
    store.put(3, b"first")
    store.put(3, b"second")
    kept = store.get(3)
    store.remove(3)
    store.remove(3)

    assert (missing, kept, store.get(3)) == (None, b"second", None)
    assert kind == "memory" or not list((tmp_path / "c").iterdir())


PLACES = [str, "memory://checkpoints{}".format]


@pytest.mark.parametrize("place", PLACES, ids=["folder", "memory"])
def test_a_studys_name_is_no_pattern(place: Callable[[Path], str], tmp_path: Path) -> None:
    names = ("resnet", "res*", "res?et", "pets [clean]", "pets c", "{a,b}", "a", "**")
    stores = {name: CheckpointStore(place(tmp_path / name)) for name in names}
    for store in stores.values():
        store.put(1, b"state")
        store.put(2, b"state")

    for name, store in stores.items():
        store.keep_only({2})

        assert (store.get(1), store.get(2)) == (None, b"state"), name
        others = [stores[other] for other in names[names.index(name) + 1 :]]
        assert [other.get(1) for other in others] == [b"state"] * len(others), name


@pytest.mark.parametrize("place", PLACES, ids=["folder", "memory"])
def test_a_place_whose_name_looks_like_a_pattern_is_tried(place: Callable[[Path], str], tmp_path: Path) -> None:
    for name in ("res*", "pets [clean]"):
        uri = place(tmp_path / name)
        try_place(uri)

        mark = write_probe(uri, "token", make_folder=True)
        write_probe(uri, "token*", make_folder=True)

        assert take_probes(uri, "token") == {mark}
        assert take_probes(uri, "token") == set()


def test_two_colons_in_a_folders_name_begin_no_other_address(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path / "zip::pets" / "checkpoints"))

    try_place(store.uri)
    store.put(1, b"state")

    assert store.get(1) == b"state"
    store.keep_only(())
    assert store.get(1) is None


def test_the_wilson_interval_is_the_published_one() -> None:
    # Newcombe (1998), table I, method 3: 81 of 263.
    low, high = wilson_interval(81, 263)

    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_measures_agree_with_counting_by_hand() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])

    metrics = measure(labels, predicted, ("a", "b", "c"))

    assert metrics.accuracy == pytest.approx(4 / 6)
    assert metrics.mean_per_class_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics.report["b"]["recall"] == 0.5


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=30))
def test_no_study_name_leaves_the_studies_folder(name: str, tmp_path: Path) -> None:
    try:
        check_study_name(name)
    except UsageError:
        return

    folder = StudyPaths(tmp_path, name).folder
    folder.mkdir(exist_ok=True)
    assert folder.resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize(
    "name", ["a/b", "..", "", ".hidden", "-flag", "new\nline", "x" * 200, "back\\slash", "\udcff", "/abs"]
)
def test_a_study_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"^study "):
        check_study_name(name)
    with pytest.raises(UsageError, match=r"^study "):
        StudyPaths(Path("/x"), name)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("45m", 2700), ("8h", 28800), ("1h30m", 5400), ("20", 20)])
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1x", "-5s", "1.5h", "0s"])
def test_a_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="90s, 45m, 8h or 1h30m"):
        parse_duration(text)


class Flaky(MemoryFileSystem):  # type: ignore[misc] # fsspec ships no type information
    """A place that is unreachable for its next `outages` uses."""

    protocol = "flaky"
    outages: ClassVar[int] = 0

    def _open(self, *args: Any, **kwargs: Any) -> Any:
        if Flaky.outages:
            Flaky.outages -= 1
            raise ConnectionError("no route to host")
        return super()._open(*args, **kwargs)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> CheckpointStore:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(checkpoints, "_RETRY_S", 0.0)
    return CheckpointStore("flaky://bucket/study")


def test_an_unreachable_place_is_waited_for(flaky: CheckpointStore) -> None:
    Flaky.outages = 3
    flaky.put(1, b"state")
    Flaky.outages = 2

    assert flaky.get(1) == b"state"
    assert flaky.get(2) is None


def test_a_place_that_stays_unreachable_is_reported(flaky: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "OUTAGE_WAIT_S", 0.0)
    monkeypatch.setattr(Flaky, "outages", 100)

    with pytest.raises(NoPlaceError, match=r"flaky://bucket/study, is unreachable \(no route to host\)"):
        flaky.put(1, b"state")


def test_a_place_of_checkpoints_is_a_whole_path_or_a_url_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert checked_place("here") == str(tmp_path / "here")
    assert checked_place("~/there") == str(Path.home() / "there")
    assert checked_place("memory://bucket") == "memory://bucket"
    with pytest.raises(UsageError, match="Protocol not known: nosuch"):
        checked_place("nosuch://bucket")


def test_the_command_that_resumes_finds_the_study_and_shows_no_password() -> None:
    given = located_by(Path("my studies"), "postgresql://me:secret@db/hpo")
    studies = [StudyPaths(Path("/x"), name, given) for name in ("a", "b c")]

    line = command("resume", studies)

    assert shlex.split(line) == [
        *("hpo", "resume", "a", "b c", "--studies-dir", "my studies"),
        *("--storage", "postgresql://me:***@db/hpo"),
    ]
    assert command("retrain", [StudyPaths(Path("/x"), "a")]) == "hpo retrain a"


def test_a_difference_between_search_spaces_is_named() -> None:
    recorded, asked = (
        study_spec(space={"parameters": {"epochs": {"low": 1, "high": 50}, "batch_size": size}, "enqueue": []})
        for size in (32, 64)
    )

    assert differences(recorded, asked) == [
        "search.space.parameters.batch_size: the study has 32, this run asks for 64",
    ]
