"""Checkpoints, metrics, names, durations: small parts with one promise each."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo.checkpoints import CheckpointStore
from hpo.cli import parse_duration
from hpo.errors import UsageError
from hpo.metrics import measure, wilson_interval
from hpo.paths import StudyPaths, check_study_name


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


def test_the_wilson_interval_is_the_published_one() -> None:
    # Newcombe (1998), table I, method 3: 81 of 263.
    low, high = wilson_interval(81, 263)

    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_measures_agree_with_counting_by_hand() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])

    metrics = measure(labels, predicted, ("a", "b", "c"))

    assert metrics.accuracy == pytest.approx(4 / 6)
    assert metrics.mean_per_class_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
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


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "-flag", "new\nline", "x" * 200, "back\\slash"])
def test_a_study_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--study"):
        check_study_name(name)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("45m", 2700), ("8h", 28800), ("1h30m", 5400), ("20", 20)])
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1x", "-5s", "1.5h"])
def test_a_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="90s, 45m, 8h or 1h30m"):
        parse_duration(text)
