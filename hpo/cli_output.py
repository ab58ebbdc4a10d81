"""What commands print on stdout: results for people, or one JSON object for programs."""

import json
import os
import sys
from typing import Any

from rich.console import Console


def console(piped_width: int = 160) -> Console:
    """Return a console on stdout that shows names as they are; `piped_width` is its width where that is no terminal."""
    return Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else piped_width)


def print_json(document: dict[str, Any]) -> None:
    """Print one object."""
    sys.stdout.write(json.dumps(document) + "\n")


def conclude(summaries: list[dict[str, Any]], as_json: bool) -> None:
    """Print the results of one study, or of several with a table that compares them, on stdout."""
    if as_json:
        print_json(summaries[0] if len(summaries) == 1 else {"studies": summaries})
        return
    from hpo.status import show_comparison

    sys.stdout.write("\n".join(_conclusion(summary) for summary in summaries))
    if len(summaries) > 1:
        sys.stdout.write("\n")
        show_comparison(summaries, console())


def _conclusion(summary: dict[str, Any]) -> str:
    from hpo.status import test_line

    counts = ", ".join(f"{count} {state.upper()}" for state, count in summary["trials"].items() if count)
    lines = [f"study {summary['study']}: {counts}"]
    best, final = summary["best"], summary["final"]
    if best is not None:
        params = ", ".join(f"{name} {_short(value)}" for name, value in best["params"].items())
        lines.append(
            f"best: trial {best['number']}, validation accuracy {best['val_accuracy']:.4f} at epoch"
            f" {best['best_epoch']} ({params})"
        )
    if final is not None:
        lines += [test_line(final), f"model: {os.path.relpath(final['model'])}"]
    return "\n".join(lines) + "\n"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
