"""Studies as tables for people and as objects for programs."""

import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from hpo.ledger.ledger import Ledger
from hpo.ledger.records import best_records
from hpo.views.summary import StudySummary, duration
from trainables.data.array_store import StoredArray


def show_studies(studies: list[StudySummary], console: Console) -> None:
    """Print one line a study."""
    table = Table(box=None, pad_edge=False)
    for column in ("study", "backbone", "dataset"):
        table.add_column(column)
    for column in ("trials", "complete", "pruned", "fail", "running", "best validation", "test"):
        table.add_column(column, justify="right")
    some_run = any(study.seconds_left is not None for study in studies)
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
            *([_time(study.seconds_left)] if some_run else []),
        )
    console.print(table)


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
    console.print(table)


def _merit(summary: dict[str, Any]) -> float:
    best = summary["best"]
    return best["val_accuracy"] if best else 0.0


def show_study(ledger: Ledger, console: Console, top: int = 5) -> None:
    """Print one study: its states, its running trials, and its best ones."""
    records = ledger.records()
    final = ledger.final
    table = Table(box=None, pad_edge=False)
    for column in (
        "trial",
        "state",
        "learning rate",
        "batch",
        "epochs",
        "freeze",
        "best epoch",
        "validation",
    ):
        table.add_column(column, justify="left" if column in ("state", "freeze") else "right")
    several_hosts = len({host for record in records for host in record.hosts}) > 1
    if several_hosts:
        table.add_column("host")
    running = [record for record in records if record.state == "RUNNING"]
    for record in [*running, *best_records(records, top)]:
        params = record.params
        table.add_row(
            str(record.number),
            record.state,
            f"{params['learning_rate']:.2g}" if "learning_rate" in params else "-",
            str(params.get("batch_size", "-")),
            f"{len(record.curve)}/{params.get('epochs', '-')}",
            str(params.get("freeze_mode", "-")),
            str(record.best.epoch) if record.best else "-",
            _share(record.best.val_accuracy if record.best else None),
            *([" ".join(record.hosts) or "-"] if several_hosts else []),
        )
    console.print(table)
    if final is not None:
        console.print(test_line(final))


def test_line(final: dict[str, Any]) -> str:
    """Return the sentence that a study ends with."""
    low, high = final["test_accuracy_ci95"]
    line = (
        f"held-out test accuracy {final['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f},"
        f" {final['test_images']} images; {_looks(final['test_looks'])} at test data in this study)"
    )
    seeds = final["seeds"]
    if seeds["stdev"] is not None:
        count = len(seeds["test_accuracies"])
        line += f"\nover {count} seeds: mean {seeds['mean']:.4f}, standard deviation {seeds['stdev']:.4f}"
    return line


def _looks(count: int) -> str:
    return "the first look" if count == 1 else f"{count} looks so far"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"about {duration(seconds)}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def show_cache(arrays: list[StoredArray], console: Console, *, cleared: bool) -> None:
    """Print one line an array, and the sum."""
    table = Table(box=None, pad_edge=False)
    table.add_column("file")
    table.add_column("kind")
    table.add_column("MB", justify="right")
    table.add_column("last used")
    for array in arrays:
        used = datetime.datetime.fromtimestamp(array.used_at).strftime("%Y-%m-%d %H:%M")
        table.add_row(array.path.name, array.kind, f"{array.size / 1e6:.1f}", used)
    if arrays:
        console.print(table)
    total = sum(array.size for array in arrays) / 1e6
    console.print(f"{'removed ' if cleared else ''}{len(arrays)} arrays, {total:.1f} MB")
