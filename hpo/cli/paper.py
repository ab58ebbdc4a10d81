"""`hpo paper`: a paper's experiments, run again and set beside what it published."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.api.options import Location, MachineOptions
from hpo.api.paper import PaperOptions
from hpo.cli.groups import grouped
from hpo.cli.output import console
from hpo.cli.relay import rays_text_aside

if TYPE_CHECKING:
    from hpo.api.paper import Paper


@grouped
def paper(
    *,
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="[EXPERIMENT.toml]", help="An experiment's file; default: Jimenez & Hale (2023)."),
    ] = None,
    backbone: Annotated[
        list[str] | None, typer.Option(help="One of the experiment's; may be repeated; default: all of them.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[BACKBONE=]WEIGHTS",
            help="default, none, a published name or a file, of all backbones or of one; may be repeated.",
        ),
    ] = None,
    options: PaperOptions,
    machines: MachineOptions,
    location: Location,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs, their epochs and hours, and run nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The page's folder.", show_default="reports/STUDY-DATASET in the folder of studies"),
    ] = None,
) -> None:
    """Run a paper's experiments again, and write a page that sets the measured beside the published.

    The same command continues after an interruption, and adds what is not measured yet.
    """
    from hpo.api.paper import plan_paper
    from hpo.api.paper_running import run_paper

    asked = plan_paper(experiment, backbones=backbone or (), weights=weights or (), options=options)
    if dry_run:
        _show(asked, machines)
        return
    with rays_text_aside():
        page = run_paper(
            asked, machines=machines, location=location, out=out, command=shlex.join(["hpo", *sys.argv[1:]])
        )
    sys.stdout.write(f"{os.path.relpath(page)}\n")


def _show(paper: "Paper", machines: MachineOptions) -> None:
    """Print a plan and what it costs."""
    from rich.table import Table

    from hpo.api.paper_running import estimate

    costs, searches, unknown = estimate(paper, machines)
    table = Table("backbone", box=None, pad_edge=False)
    for heading in ("runs", "epochs", "hours"):
        table.add_column(heading, justify="right")
    table.add_column("measured with")
    for one in costs:
        table.add_row(one.backbone, str(one.runs), str(one.epochs), _hours(one.hours), one.measured)
    known = [one.hours for one in costs if one.hours is not None]
    total = sum(known) if known else None
    table.add_row("all", str(paper.runs), str(sum(one.epochs for one in costs)), _hours(total), "")
    screen = console()
    screen.print(table)
    screen.print(f"{paper.points} configurations are measured by {paper.runs} runs in {len(paper.planned)} studies.")
    if paper.trials:
        hours = [one for one in searches.values() if one is not None]
        most = f", at most {_hours(sum(hours))} hours, were no trial stopped early" if hours else ""
        screen.print(f"Then {len(paper.backbones)} studies of {paper.trials} trials{most}.")
    screen.print(
        unknown
        or "Hours are an estimate: a few steps on this machine, times the images and epochs; what --address adds"
        " is not measured."
    )


def _hours(hours: float | None) -> str:
    if hours is None:
        return "-"
    return f"{hours:.1f}" if hours >= 0.1 else f"{hours:.2g}"
