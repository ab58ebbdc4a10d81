"""Several studies side by side: what they reached, what it cost, and which differ on the same test images."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hpo.final.significance import SIGNIFICANT, differ, holm, wilson_interval
from hpo.ledger.records import accuracy
from hpo.report import facts
from hpo.report.drawing import SEVERAL, SIZE, Drawing, draw
from hpo.report.predictions import Predictions
from hpo.report.search_figures import time_axis, time_unit
from hpo.report.source import StudySource
from hpo.report.tables import Column, Table, p_value, parameters, share
from hpo.views.style import GREY, INK, grid, legend_below
from hpo.views.summary import duration

_LONGEST_NAME = 26


def ranked(sources: Sequence[StudySource]) -> list[StudySource]:
    """Return studies by validation accuracy, the best first; test stands beside it and selects nothing."""
    return sorted(sources, key=lambda one: (-(accuracy(one.best) if one.best else -1.0), one.name))


def studies(sources: Sequence[StudySource]) -> Table:
    """Return one row per study."""
    rows = []
    for one in sources:
        final, best = one.final, one.best
        low, high = final["test_accuracy_ci95"] if final else (None, None)
        rows.append(
            {
                "study": one.name,
                "backbone": one.spec.model.backbone,
                "dataset": one.spec.data.dataset,
                "trials": len(one.records),
                "val_accuracy": accuracy(best) if best else None,
                "test_accuracy": final["test_accuracy"] if final else None,
                "test_low": low,
                "test_high": high,
                "test_looks": one.test_looks,
                "seconds_trained": one.seconds,
                **{name: best.params.get(name) if best else None for name in one.space.parameters},
            }
        )
    names = dict.fromkeys(name for one in sources for name in one.space.parameters)
    columns = (
        Column("study", "study"),
        Column("backbone", "backbone"),
        *([Column("dataset", "dataset")] if len({row["dataset"] for row in rows}) > 1 else []),
        Column("trials", "trials", str),
        Column("val_accuracy", "validation", share),
        Column("test_accuracy", "test", share),
        Column("test_low", "from", share),
        Column("test_high", "to", share),
        Column("seconds_trained", "training", duration),
        *parameters(names, rows),
    )
    return Table("studies", "Studies, the best on validation first, each with its best configuration", columns, rows)


def asked(sources: Sequence[StudySource]) -> Table:
    """Return what was asked of each study, a column each."""
    answers = {one.name: dict(facts.asked(one)) for one in sources}
    questions = dict.fromkeys(question for one in answers.values() for question in one)
    rows = [
        {"question": question, **{name: said.get(question, "") for name, said in answers.items()}}
        for question in questions
    ]
    return Table(
        "asked",
        "What was asked of each",
        (Column("question", "question"), *(Column(name, name) for name in answers)),
        rows,
    )


def incomparable(first: StudySource, second: StudySource) -> str | None:
    """Return why the final models of two studies cannot be compared image by image; None: they can."""
    for one in (first, second):
        if _tested(one) is None:
            return f"{one.name} has no predictions of a final model"
    mine, theirs = _tested(first), _tested(second)
    assert mine is not None
    assert theirs is not None
    digests = {one.spec.data.test_sha256 for one in (first, second)} - {None}
    if len(digests) > 1 or _named(mine) != _named(theirs):
        return "their test images are not the same"
    return None


def mcnemar(sources: Sequence[StudySource]) -> tuple[Table, list[str]]:
    """Return McNemar's exact test of each pair of final models that saw the same test images, and why others are out.

    Two models differ where the p-value, adjusted for the number of pairs (Holm 1979), is below `SIGNIFICANT`.
    """
    rows: list[dict[str, Any]] = []
    left_out = []
    for first, second in itertools.combinations(sources, 2):
        reason = incomparable(first, second)
        if reason is not None:
            left_out.append(f"{first.name} and {second.name}: {reason}.")
            continue
        right, other = _right(first), _right(second)
        rows.append(
            {
                "first": first.name,
                "second": second.name,
                "images": len(right),
                "only_first_right": int((right & ~other).sum()),
                "only_second_right": int((~right & other).sum()),
                "p_value": differ(right, other),
            }
        )
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_adjusted"] = adjusted
        row["verdict"] = "differ" if adjusted < SIGNIFICANT else "cannot be told apart"
    columns = (
        Column("first", "study"),
        Column("second", "other study"),
        Column("images", "test images", str),
        Column("only_first_right", "only the first right", str),
        Column("only_second_right", "only the other right", str),
        Column("p_value", "p", p_value),
        Column("p_adjusted", "p, adjusted", p_value),
        Column("verdict", "verdict"),
    )
    return Table("mcnemar", "Pairs of final models on the same test images", columns, rows), left_out


def comparison_drawings(sources: Sequence[StudySource]) -> list[Drawing]:
    """Return the figures of several studies; none where no study has a trial with an epoch."""
    known = [one for one in sources if one.best is not None]
    return [_intervals(known), _costs(known)] if known else []


def _intervals(sources: Sequence[StudySource]) -> Drawing:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, one in enumerate(sources):
            colour = SEVERAL[row % len(SEVERAL)]
            axes.plot(
                [_validation(one)], [row - 0.14], "D", color=GREY, markersize=6, label="" if row else "validation"
            )
            if one.final is not None:
                low, high = one.final["test_accuracy_ci95"]
                axes.plot([low, high], [row + 0.14] * 2, color=colour, linewidth=2.4)
                axes.plot([one.final["test_accuracy"]], [row + 0.14], "o", color=colour, markersize=8)
        axes.plot([], [], "o-", color=INK, markersize=8, linewidth=2.4, label="held-out test, 95 % interval")
        axes.set_yticks(range(len(sources)), [_label(one) for one in sources])
        axes.set_ylim(len(sources) - 0.5, -0.5)
        axes.set_xlabel("accuracy")
        legend_below(axes, columns=2)
        grid(axes, "x")

    caption = (
        "Circles and lines: held-out test with its 95 % interval. Diamonds: the best trial on validation, by which the"
        " studies are sorted."
    )
    alt = "; ".join(f"{one.name}: {_validation(one):.4f} on validation" for one in sources)
    return draw("accuracy", "Accuracy", caption, alt, paint, (SIZE[0], max(SIZE[1], 1.6 + 0.5 * len(sources))))


def _costs(sources: Sequence[StudySource]) -> Drawing:
    unit, size = time_unit(max(one.seconds for one in sources))
    times = [max(one.seconds, 1e-3) / size for one in sources]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, (one, cost) in enumerate(zip(sources, times, strict=True)):
            colour = SEVERAL[row % len(SEVERAL)]
            if one.final is not None:
                low, high = one.final["test_accuracy_ci95"]
                value = one.final["test_accuracy"]
            else:
                value, images = _validation(one), one.splits.get("validation")
                low, high = wilson_interval(round(value * images), images) if images else (value, value)
            axes.errorbar(
                cost, value, yerr=[[value - low], [high - value]], color=colour, linewidth=1.6, capsize=3,
                fmt="o" if one.final is not None else "D", label=_label(one),
            )  # fmt: skip
        time_axis(axes, times, "training time of the whole study", unit)
        axes.margins(x=0.12)
        axes.set_ylabel("accuracy")
        legend_below(axes, columns=2)
        grid(axes)

    caption = (
        "What all epochs of all trials took. Circles: held-out test; diamonds: validation, where there is no test yet."
    )
    alt = "; ".join(f"{one.name}: {duration(one.seconds)}" for one in sources)
    height = SIZE[1] + 0.13 * len(sources)
    return draw("costs", "Accuracy against training cost", caption, alt, paint, (SIZE[0], height))


def _validation(source: StudySource) -> float:
    assert source.best is not None
    return accuracy(source.best)


def _tested(source: StudySource) -> Predictions | None:
    found = source.predictions
    return found if found is not None and found.split == "test" else None


def _named(predictions: Predictions) -> dict[str, str]:
    """Each image's name and class."""
    found = predictions.confusions
    return dict(zip(predictions.names, (found.classes[label] for label in found.true), strict=True))


def _right(source: StudySource) -> np.ndarray:
    """Which test images a final model has right, by the order of their names."""
    found = _tested(source)
    assert found is not None
    order = np.argsort(np.asarray(found.names, dtype=object))
    right: np.ndarray = (found.confusions.true == found.confusions.predicted)[order]
    return right


def _label(source: StudySource) -> str:
    name = source.name
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
