"""What a report computes: times, confusions, importances, comparisons, and the palette's contrast."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from ray.tune.schedulers import ASHAScheduler

import search_spaces
from hpo.final.significance import holm, paired_tests
from hpo.ledger.importances import importances
from hpo.ledger.records import Place, State, TrialRecord
from hpo.paths import StudyPaths
from hpo.report import comparison
from hpo.report.drawing import draw
from hpo.report.parameter_figures import scales, surface
from hpo.report.predictions import Predictions, confused_pairs, final_predictions, per_class, validation_predictions
from hpo.report.search_figures import rung_epochs
from hpo.report.source import StudySource
from hpo.report.timeline import active_seconds, has_epoch_times, lanes, machine_rows, stretches
from hpo.spec import RunOptions, SearchConfig
from hpo.views import confusion
from hpo.views.confusion import Confusions
from hpo.views.style import PALETTE, STATES
from tests.makers import SPACE, epoch, study_spec
from trainables.predictions import pack

LABELS = np.arange(60) % 3


def trial(number: int, times: list[float] | None = None, place: str = "a", **changes: Any) -> TrialRecord:
    """A trial of epochs of 10 s each, which the ledger had at `times`."""
    count = len(times) if times is not None else 2
    fields: dict[str, Any] = {
        "state": "COMPLETE",
        "params": {"learning_rate": 0.01, "batch_size": 32, "epochs": 9, "freeze_mode": "none"},
        "curve": tuple(epoch(one + 1, 0.5 + 0.1 * one, seconds=10.0) for one in range(count)),
        "host": place,
        "device": "card",
        "error": None,
        "seconds": 50.0,
        "places": (Place(place, "card"),) * count,
        "started_at": 0.0,
        "ended_at": 50.0,
        "reported_at": tuple(times) if times is not None else (None,) * count,
    }
    return TrialRecord(number=number, **{**fields, **changes})


@pytest.mark.parametrize(("grace", "factor", "longest"), [(2, 4.0, 50), (1, 3.0, 9), (1, 2.5, 20), (5, 4.0, 5)])
def test_rungs_are_where_ray_places_them(grace: int, factor: float, longest: int) -> None:
    search = SearchConfig(space=search_spaces.to_dict(SPACE), grace_period=grace, reduction_factor=factor)
    own = ASHAScheduler(
        time_attr="epoch", metric="m", mode="max", grace_period=grace, reduction_factor=factor, max_t=longest
    )

    rungs = rung_epochs(search, longest)

    assert rungs == sorted(int(np.ceil(milestone)) for milestone, _ in own._brackets[0]._rungs)
    assert rung_epochs(search.model_copy(update={"asha": False}), longest) == []


def test_time_is_told_by_lane_and_a_pause_splits_a_trial() -> None:
    records = [trial(0, [10, 20, 200]), trial(1, [10.5, 20.5]), trial(2, [31, 41]), trial(3, [15, 25], place="b")]

    found = stretches(records)
    rows = lanes(found)

    assert [(one.trial, one.start, one.end, one.epochs) for one in found if one.trial == 0] == [
        (0, 0, 20, 2),
        (0, 190, 200, 1),
    ]
    assert [(lane.host, [one.trial for one in lane.stretches]) for lane in rows] == [
        ("a", [0, 2, 0]),
        ("a", [1]),
        ("b", [3]),
    ]
    assert active_seconds(found) == 200
    first = machine_rows(rows, active_seconds(found))[0]
    assert (first["trials"], first["epochs"], first["trained_seconds"]) == (3, 7, 70)
    assert first["idle_share"] == pytest.approx(1 - 70 / (200 * 2))


def test_a_study_that_was_stopped_for_hours_was_not_idle_then() -> None:
    found = stretches([trial(0, [10, 20]), trial(1, [10_010, 10_020])])

    (row,) = machine_rows(lanes(found), active_seconds(found))

    assert active_seconds(found) == 40
    assert row["idle_share"] == 0


def test_an_old_trial_is_one_bar_from_its_start_to_its_end() -> None:
    old = trial(0)

    (stretch,) = stretches([old])

    assert (stretch.start, stretch.end, stretch.trained) == (0, 50, 20)
    assert not has_epoch_times([old])
    assert has_epoch_times([trial(1, [10, 20])])


def test_confused_pairs_are_counted_and_their_images_named(tmp_path: Path) -> None:
    rows = [("a.jpg", "cat", "cat"), ("b.jpg", "cat", "NA"), ("c.jpg", "cat", "NA"), ("d.jpg", "NA", "cat")]
    path = tmp_path / "test_predictions.csv"
    pd.DataFrame(rows, columns=["image", "true", "predicted"]).to_csv(path, index=False)

    found = final_predictions(path, ("NA", "cat", "unseen"))

    assert found is not None
    assert [one.tolist() for one in found.confusions.counted] == [[[0, 1], [1, 0], [1, 1]], [1, 2, 1]]
    worst = confused_pairs(found, 2)
    assert [(one.true, one.predicted, one.count, one.examples) for one in worst] == [
        ("cat", "NA", 2, ("b.jpg", "c.jpg")),
        ("NA", "cat", 1, ("d.jpg",)),
    ]
    cat, unseen = per_class(found.confusions)[1:]
    assert (cat["recall"], cat["precision"]) == (pytest.approx(1 / 3), 0.5)
    assert cat["recall_low"] < 1 / 3 < cat["recall_high"]
    assert (unseen["recall"], unseen["precision"], unseen["f1"]) == (None, None, None)


@pytest.mark.parametrize("text", ["", "image,true\na,b\n", "image,true,predicted\na,cat,dog\n", "\0\0"])
def test_predictions_that_are_torn_or_of_other_classes_are_left_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "test_predictions.csv"
    path.write_text(text, encoding="utf-8")

    assert final_predictions(path, ("cat",)) is None
    assert final_predictions(tmp_path / "none.csv", ("cat",)) is None


def test_validation_predictions_take_their_names_from_the_listing(tmp_path: Path) -> None:
    record = trial(0, [10], val_predictions=pack(LABELS))
    listing = tmp_path / "splits.csv"
    classes = ("a", "b", "c")

    without = validation_predictions(record, pack(LABELS), classes, listing)
    rows = [("train", "t", "a"), *(("validation", f"{one}.jpg", classes[label]) for one, label in enumerate(LABELS))]
    pd.DataFrame(rows, columns=["split", "image", "class"]).to_csv(listing, index=False)
    named = validation_predictions(record, pack(LABELS), classes, listing)

    assert without is not None
    assert without.names == ()
    assert named is not None
    assert named.names[:2] == ("0.jpg", "1.jpg")
    assert validation_predictions(trial(0, [10]), pack(LABELS), classes, listing) is None


def random_trials(count: int, state: State = "COMPLETE") -> list[TrialRecord]:
    """Trials whose accuracy follows from the learning rate, and from nothing else."""
    generator = np.random.default_rng(0)
    records = []
    for number in range(count):
        rate = float(10 ** generator.uniform(-4, -1))
        params = {
            "learning_rate": rate,
            "batch_size": int(generator.choice([16, 32])),
            "epochs": int(generator.choice([3, 6, 9])),
            "freeze_mode": str(generator.choice(["none", "backbone"])),
        }
        curve = (epoch(1, 0.9 - 0.1 * abs(np.log10(rate) + 2)),)
        records.append(trial(number, [10], params=params, curve=curve, state=state))
    return records


def test_the_parameter_that_decides_is_the_most_important_under_every_seed() -> None:
    found = importances(SPACE, random_trials(40))

    shares = np.asarray(list(found.values()))
    assert list(found) == ["learning_rate", "batch_size", "epochs", "freeze_mode"]
    assert shares.sum(axis=0) == pytest.approx(1)
    assert (shares[0] > shares[1:].max(axis=0)).mean() > 0.9
    assert shares[0].std() > 0


def test_of_too_few_or_equal_trials_no_importance_is_told() -> None:
    equal = [dataclasses.replace(one, curve=(epoch(1, 0.5),)) for one in random_trials(20)]

    assert importances(SPACE, random_trials(7)) == {}
    assert importances(SPACE, equal) == {}
    assert importances(SPACE, random_trials(20, state="RUNNING")) == {}


def test_a_parameter_under_conditions_has_one_axis_and_an_importance() -> None:
    space = search_spaces.from_dict(
        {
            "parameters": {
                "learning_rate": [
                    {"low": 1e-4, "high": 1e-2, "log": True, "when": {"freeze_mode": ["none"]}},
                    {"low": 1e-3, "high": 1e-1, "log": True, "when": {"freeze_mode": ["backbone"]}},
                ],
                "batch_size": 32,
                "epochs": {"low": 1, "high": 9},
                "freeze_mode": {"choices": ["none", "backbone"]},
            }
        },
        "test",
    )
    records = [
        dataclasses.replace(one, params={**one.params, "learning_rate": 5e-3, "batch_size": 32})
        for one in random_trials(20)
    ]

    found = importances(space, records)

    assert set(found) == {"epochs", "freeze_mode"}
    assert scales(space)["learning_rate"].is_log
    assert scales(space)["learning_rate"].place(0.001) == pytest.approx(-3)
    assert scales(space)["batch_size"].choices == (32,)


def test_the_surface_follows_the_first_two_columns() -> None:
    columns = np.random.default_rng(0).uniform(size=(200, 3))

    predicted = surface(columns, columns[:, 0], (np.array([0.1, 0.9]), np.array([0.2, 0.5, 0.8])))

    assert predicted.shape == (3, 2)
    assert (predicted[:, 1] - predicted[:, 0] > 0.5).all()


def test_holms_adjustment_is_the_published_one() -> None:
    """Holm (1979) by R's p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm"), in another order."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []


def test_a_pruned_trial_that_is_better_than_the_best_is_tied() -> None:
    best = trial(0, [10], val_predictions=pack((LABELS + (np.arange(60) < 20)) % 3))
    better = trial(1, [10], state="PRUNED", val_predictions=pack(LABELS))

    tests = paired_tests(best, [best, better], pack(LABELS))

    assert tests is not None
    assert (tests[0].difference, tests[0].is_tied) == (-20, True)
    assert tests[0].p_value < 1e-4


def source(name: str, right: np.ndarray, order: np.ndarray, folder: Path, **changes: Any) -> StudySource:
    """A study whose final model has the test images at `right` right, listed in some order."""
    made = StudySource(
        name=name,
        paths=StudyPaths(folder, name),
        spec=study_spec(**changes),
        options=RunOptions(trials=1),
        space=SPACE,
        splits={"classes": ["a", "b", "c"]},
        records=[trial(0, [10])],
        final={"test_accuracy": float(right.mean()), "test_accuracy_ci95": [0.1, 0.9]},
        test_looks=1,
    )
    predicted = np.where(right, LABELS, (LABELS + 1) % 3)
    names = tuple(f"{one}.jpg" for one in order)
    confusions = Confusions(LABELS[order], predicted[order], ("a", "b", "c"))
    found = Predictions(confusions, "test", "test", names)
    made.__dict__["predictions"] = found
    return made


def test_final_models_are_compared_image_by_image_whatever_their_order(tmp_path: Path) -> None:
    right, other = np.arange(60) >= 5, np.arange(60) < 40
    first = source("first", right, np.arange(60), tmp_path)
    second = source("second", other, np.arange(60)[::-1].copy(), tmp_path)

    table, left_out = comparison.mcnemar([first, second])

    (row,) = table.rows
    assert left_out == []
    assert (row["images"], row["only_first_right"], row["only_second_right"]) == (60, 20, 5)
    assert row["p_value"] == pytest.approx(0.0041, abs=1e-4)
    assert row["verdict"] == "differ"


def test_final_models_of_other_test_images_are_not_compared(tmp_path: Path) -> None:
    right = np.ones(60, bool)
    first, other = (source(name, right, np.arange(60), tmp_path, test_sha256=name) for name in ("one", "other"))
    fewer = source("fewer", right, np.arange(50), tmp_path)

    table, left_out = comparison.mcnemar([first, other, fewer])

    assert list(table.rows) == []
    assert left_out == [
        "one and other: their test images are not the same.",
        "one and fewer: their test images are not the same.",
        "other and fewer: their test images are not the same.",
    ]


def contrast(first: str, second: str) -> float:
    """WCAG 2.1's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
        return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_colour_has_wcags_contrast_with_the_page(scheme: int) -> None:
    paper = PALETTE["paper"][scheme]
    lights = {light: name for name, (light, _) in PALETTE.items()}

    for name, colours in PALETTE.items():
        least = {"ink": 4.5, "muted": 4.5, "grid": 1.0, "paper": 1.0}.get(name, 3.0)
        assert contrast(colours[scheme], paper) >= least, name
    # Numbers of trials stand on the bars of the Gantt chart in the page's colour.
    for light in STATES.values():
        assert contrast(PALETTE[lights[light]][scheme], paper) >= 4.5, light


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("shade", [confusion.RIGHT, confusion.CONFUSED])
def test_counts_can_be_read_on_the_darkest_cell(scheme: int, shade: str) -> None:
    ink, paper = PALETTE["ink"][scheme], PALETTE["paper"][scheme]

    def mixed(place: int) -> int:
        above, below = (int(one[place : place + 2], 16) for one in (shade, paper))
        return round(confusion.DARKEST * above + (1 - confusion.DARKEST) * below)

    assert contrast(ink, "#" + "".join(f"{mixed(place):02x}" for place in (1, 3, 5))) >= 4.5


def test_a_figure_follows_the_readers_colours_and_shows_names_as_they_are() -> None:
    hostile = "<script>alert('$x$')</script> 猫"

    def paint(figure: Figure) -> None:
        figure.subplots().set_title(hostile)

    drawn = draw("one", "title", "caption", 'a "quoted" <b>', paint)

    assert "var(--ink)" in drawn.inline
    assert not any(f": {light}" in drawn.inline for light, _ in PALETTE.values())
    assert "<script" not in drawn.inline
    assert "&lt;script&gt;alert('$x$')&lt;/script&gt; 猫" in drawn.inline
    assert 'aria-label="a &#34;quoted&#34; &lt;b&gt;"' in drawn.inline
    assert 'id="one-figure_1"' in drawn.inline
    assert "var(--" not in drawn.svg
    assert drawn.png.startswith(b"\x89PNG")
