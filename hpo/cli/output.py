"""What commands print on stdout: results for people, or one JSON object for programs."""

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from hpo.studies.lifecycle import Ended

logger = logging.getLogger(__name__)


def console(piped_width: int = 160) -> Console:
    """Return a console on stdout that shows names as they are; `piped_width` is its width where that is no terminal."""
    return Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else piped_width)


def examples(*commands: str) -> str:
    """Return the end of a command's help: what people type, a line each."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


def print_json(document: dict[str, Any]) -> None:
    """Print one object."""
    sys.stdout.write(json.dumps(document) + "\n")


def conclude(ended: "Ended", as_json: bool) -> None:
    """Print the results of one study, or of several with a table that compares them, on stdout.

    Raises:
        HpoError: A study failed; the others' results are printed, and every failure but this one is logged.
    """
    if ended.summaries:
        alone = len(ended.summaries) + len(ended.failures) == 1
        _print_results(ended.summaries, as_json, alone)
    for failure in ended.failures[:-1]:
        logger.error("error: %s", failure)
    ended.check()


def _print_results(summaries: list[dict[str, Any]], as_json: bool, alone: bool) -> None:
    if as_json:
        print_json(summaries[0] if alone else {"studies": summaries})
        return
    from hpo.views.tables import show_comparison

    sys.stdout.write("\n".join(_conclusion(summary) for summary in summaries))
    if not alone:
        sys.stdout.write("\n")
        show_comparison(summaries, console())


def _conclusion(summary: dict[str, Any]) -> str:
    from hpo.views.tables import final_lines, no_model

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
        lines += [final_lines(final), f"model: {os.path.relpath(final['model'])}"]
    if summary["use"] is not None:
        lines.append(no_model(summary["trainable"], summary["use"]))
    return "\n".join(lines) + "\n"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
