"""The tables of `benchmarks.retrain`."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

STARTS = ("random", "none", "partial", "backbone")
OWN, BEST, BEST_AVERAGED = "b: the trial's own best epoch", "c: train, validation chooses", "c, second half averaged"
TODAY, LONG = "a: train+val, best epoch, replayed rates", "d: train+val, all epochs, replayed rates"
HALF, QUARTER, EMA = "d, second half averaged", "d, last quarter averaged", "d, moving average (0.7 per epoch)"
COSINE, COSINE_AVERAGED = "e: train+val, cosine over all epochs", "e, last quarter averaged"
SHORT, LATE = "e over the best epoch's count", "e, cosine in the second half only"
CONTROL, SOUP = "e on train alone", "f: soup of three e, one start"


def median_of_three(curve: Sequence[float]) -> list[float]:
    """Return the median of each epoch and its neighbours."""
    return [statistics.median(curve[max(0, epoch - 1) : epoch + 2]) for epoch in range(len(curve))]


OBJECTIVES: dict[str, Callable[[dict[str, Any]], float]] = {
    "best epoch": lambda trial: max(trial["curve"]),
    "best median of three epochs": lambda trial: max(median_of_three(trial["curve"])),
    "best epoch of averaged weights": lambda trial: max(trial["averaged_curve"]),
    "last epoch": lambda trial: float(trial["curve"][-1]),
}


def choose(trials: Sequence[dict[str, Any]], objective: str) -> int:
    """Return the number of the trial that an objective prefers, the first of equals."""
    return max(range(len(trials)), key=lambda number: OBJECTIVES[objective](trials[number]))


def ways_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return how each way did: test accuracy, and what it is short of the chosen trial's validation accuracy."""
    starts = [start for start in STARTS if any(row["start"] == start for row in rows)]
    cells = {(row["dataset"], row["start"]) for row in rows}
    lines = [
        f"| way | test | deviation | test - val | deviation | worst | {' | '.join(starts)} |",
        f"|---|{'---:|' * (5 + len(starts))}",
    ]
    for way in sorted({way for row in rows for way in row["test"]}):
        having = [row for row in rows if way in row["test"]]
        tests, gaps = [row["test"][way] for row in having], [row["test"][way] - row["val"] for row in having]
        of_cells = [[row["test"][way] for row in having if (row["dataset"], row["start"]) == cell] for cell in cells]
        gaps_of_cells = [
            [row["test"][way] - row["val"] for row in having if (row["dataset"], row["start"]) == cell]
            for cell in cells
        ]
        by_start = [[row["test"][way] for row in having if row["start"] == start] for start in starts]
        figures = [
            f"{statistics.fmean(tests):.4f} | {_deviation(of_cells):.4f}",
            f"{statistics.fmean(gaps):+.4f} | {_deviation(gaps_of_cells):.4f} | {min(gaps):+.4f}",
            *(f"{statistics.fmean(some):.4f}" if some else "" for some in by_start),
        ]
        lines.append(f"| {way} ({len(having)}) | {' | '.join(figures)} |")
    return lines


def _deviation(cells: Iterable[Sequence[float]]) -> float:
    """Return the standard deviation over seeds, pooled over datasets and starts."""
    variances = [statistics.variance(cell) for cell in cells if len(cell) > 1]
    return statistics.fmean(variances) ** 0.5 if variances else math.nan


def differences_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return by how much each way is better than three others on the same studies, with standard errors."""
    others = [way for way in (OWN, BEST, COSINE) if way in rows[0]["test"]]
    lines = [f"| way minus | {' | '.join(others)} |", f"|---|{'---:|' * len(others)}"]
    for way in sorted({way for row in rows for way in row["test"]}):
        figures = []
        for other in others:
            gains = [row["test"][way] - row["test"][other] for row in rows if way in row["test"]]
            error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else math.nan
            figures.append("" if way == other else f"{statistics.fmean(gains):+.4f} ± {error:.4f}")
        lines.append(f"| {way} | {' | '.join(figures)} |")
    return lines


def objectives_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what each objective's choice among a study's trials is worth on test."""
    lines = [
        "| objective | other choice than the best epoch's | test of its best epoch | test of its final model |"
        " difference | objective - test |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, objective in OBJECTIVES.items():
        chosen = [choose(row["trials"], name) for row in rows]
        trials = [row["trials"][number] for row, number in zip(rows, chosen, strict=True)]
        own, final = ([trial["tests"][way] for trial in trials] for way in (OWN, COSINE))
        gains = [test - row["test"][COSINE] for test, row in zip(final, rows, strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else math.nan
        excess = statistics.fmean(objective(trial) - test for trial, test in zip(trials, final, strict=True))
        figures = [
            f"{sum(number != row['chosen'] for number, row in zip(chosen, rows, strict=True))} of {len(rows)}",
            f"{statistics.fmean(own):.4f}",
            f"{statistics.fmean(final):.4f}",
            f"{statistics.fmean(gains):+.4f} ± {error:.4f}",
            f"{excess:+.4f}",
        ]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return lines


def shown(rows: Sequence[dict[str, Any]]) -> str:
    """Return all tables in Markdown."""
    tables = {"all studies": ways_table(rows), "paired differences": differences_table(rows)}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        tables[dataset] = ways_table([row for row in rows if row["dataset"] == dataset])
    if len(rows[0]["trials"]) > 1:
        tables["objectives"] = objectives_table(rows)
    return "\n".join("\n".join([f"### {name}", "", *lines, ""]) for name, lines in tables.items())
