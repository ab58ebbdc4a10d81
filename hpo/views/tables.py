"""Studies as tables for people and as objects for programs."""

import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from hpo.ledger.ledger import Ledger
from hpo.ledger.records import best_records
from hpo.views.summary import StudySummary, left_in_words
from hpo.views.time_left import TimeLeft
from hpo.views.trainables import in_order, label, shown, use
from trainables.data.array_store import StoredArray
from trainables.trainable import has_final_model

_LEAST_WIDTH = 12
"""Columns that a dataset's name may be folded to."""
_SHORT = {"batch_size": "batch", "freeze_mode": "freeze"}
_NAMED = 8
"""Tied trials that are named."""


def show_studies(studies: list[StudySummary], console: Console) -> None:
    """Print one line per study."""
    table = Table(box=None, pad_edge=False)
    for column in ("study", "backbone"):
        table.add_column(column)
    longest = max(cell_len(name) for name in ("dataset", *(study.dataset for study in studies)))
    table.add_column("dataset", overflow="fold", min_width=min(longest, _LEAST_WIDTH))
    for column in ("trials", "complete", "pruned", "fail", "running", "best validation", "test"):
        table.add_column(column, justify="right")
    some_run = any(study.time_left is not None for study in studies)
    if some_run:
        table.add_column("time left", justify="right")
    for study in studies:
        states = study.states
        table.add_row(
            study.name,
            study.backbone,
            study.dataset,
            f"{sum(states.values())}/{study.target}",
            *(str(states[state]) for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING")),
            _share(study.best_value),
            _share(study.test_accuracy),
            *([_time(study.time_left)] if some_run else []),
        )
    _print_whole(table, console)


def show_comparison(summaries: list[dict[str, Any]], console: Console) -> None:
    """Print several studies' results, the best validation accuracy first; test stands beside it and selects nothing."""
    table = Table(box=None, pad_edge=False)
    for column in ("study", "backbone"):
        table.add_column(column)
    for column in ("trials", "best validation", "test", "95 % interval"):
        table.add_column(column, justify="right")
    for summary in sorted(summaries, key=_merit, reverse=True):
        best, final = summary["best"], summary["final"]
        low, high = final["test_accuracy_ci95"] if final else (None, None)
        table.add_row(
            summary["study"],
            summary["backbone"],
            str(sum(summary["trials"].values())),
            _share(best and best["val_accuracy"]),
            _share(final and final["test_accuracy"]),
            f"{_share(low)} to {_share(high)}" if final else "-",
        )
    _print_whole(table, console)


def _print_whole(table: Table, console: Console) -> None:
    """Print a table with every cell in one piece, if need be in lines that are longer than the screen is wide.

    Headers are folded between words, and columns that have a least width of their own anywhere.
    """
    for column in table.columns:
        if column.min_width is None:
            column.min_width = max(map(cell_len, [*str(column.header).split(), *map(str, column.cells)]))
    # Two spaces part columns.
    least = sum((column.min_width or 0) + 2 for column in table.columns) - 2
    console.print(table, width=max(console.width, least), crop=False)


def _merit(summary: dict[str, Any]) -> float:
    best = summary["best"]
    return best["val_accuracy"] if best else 0.0


def show_study(ledger: Ledger, console: Console, top: int = 5) -> None:
    """Print one study: its states, its running trials, and its best ones."""
    records = ledger.records()
    final = ledger.final
    table = Table(box=None, pad_edge=False)
    names = in_order(ledger.space.parameters)
    for column in ("trial", "state", *(_SHORT.get(name, label(name)) for name in names), "best epoch", "validation"):
        table.add_column(column, justify="left" if column in ("state", "freeze") else "right")
    several_hosts = len({host for record in records for host in record.hosts}) > 1
    if several_hosts:
        table.add_column("host")
    running = [record for record in records if record.state == "RUNNING"]
    for record in [*running, *best_records(records, top)]:
        cells = {name: shown(record.params.get(name, "-")) for name in names}
        cells["epochs"] = f"{len(record.curve)}/{cells['epochs']}"
        table.add_row(
            str(record.number),
            record.state,
            *cells.values(),
            str(record.best.epoch) if record.best else "-",
            _share(record.best.val_accuracy if record.best else None),
            *([" ".join(record.hosts) or "-"] if several_hosts else []),
        )
    console.print(table)
    if final is not None:
        console.print(final_lines(final))
    if not has_final_model(ledger.spec.trainable):
        best = best_records(records, 1)
        console.print(no_model(ledger.spec.trainable, use(ledger, best[0] if best else None)), soft_wrap=True)


def no_model(trainable: str, use: str) -> str:
    """Return what a study ends with whose trainable has no final model, and what can be done instead."""
    return f"{trainable} has no final model; {use}"


def final_lines(final: dict[str, Any]) -> str:
    """Return what a study ends with: its held-out test accuracy, and what can be concluded from it."""
    low, high = final["test_accuracy_ci95"]
    lines = [
        f"held-out test accuracy {final['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f},"
        f" {final['test_images']} images; {_looks(final['test_looks'])} at test data in this study)"
    ]
    seeds = final["seeds"]
    if seeds["stdev"] is not None:
        count = len(seeds["test_accuracies"])
        lines.append(f"over {count} seeds: mean {seeds['mean']:.4f}, standard deviation {seeds['stdev']:.4f}")
    # Finals of hpo 0.1.0 have none.
    if "validation" in final:
        lines += _conclusions(final["validation"])
    return "\n".join(lines)


def _conclusions(validation: dict[str, Any]) -> list[str]:
    above, (low, high) = validation["above_test"], validation["above_test_ci95"]
    verdict = "within chance" if low <= 0 <= high else "more than chance"
    where = "above" if above >= 0 else "below"
    lines = [
        f"its trial's validation accuracy was {abs(above):.4f} {where} that, {verdict}"
        f" (95 % interval {low:+.4f} to {high:+.4f})"
    ]
    tied = validation["tied_trials"]
    if tied is not None:
        named = f": {', '.join(str(number) for number in tied[:_NAMED])}{', ...' if len(tied) > _NAMED else ''}"
        lines.append(
            f"{len(tied)} of {validation['compared_trials']} other trials are tied with it on validation"
            f"{named if tied else ''} (McNemar's test on the same images, p >= 0.05)"
        )
    return lines


def _looks(count: int) -> str:
    return "the first look" if count == 1 else f"{count} looks so far"


def _time(left: TimeLeft | None) -> str:
    return "-" if left is None else left_in_words(left).removeprefix("about ").replace(" left", "")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def show_cache(arrays: list[StoredArray], console: Console, *, cleared: bool) -> None:
    """Print one line per array, and the sum."""
    table = Table(box=None, pad_edge=False)
    table.add_column("file")
    table.add_column("kind")
    table.add_column("MB", justify="right")
    table.add_column("last used")
    for array in arrays:
        used = datetime.datetime.fromtimestamp(array.used_at).strftime("%Y-%m-%d %H:%M")
        table.add_row(array.path.name, array.kind, f"{array.size / 1e6:.1f}", used)
    if arrays:
        _print_whole(table, console)
    total = sum(array.size for array in arrays) / 1e6
    console.print(f"{'removed ' if cleared else ''}{len(arrays)} arrays, {total:.1f} MB")
