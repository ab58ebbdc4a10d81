"""The command `hpo report`."""

import logging
import os
import sys
from typing import Annotated

import typer

from hpo.cli.groups import Located, grouped

logger = logging.getLogger(__name__)


@grouped
def report(
    *,
    study: Annotated[list[str], typer.Argument(metavar="STUDY...", help="One, or several to compare.")],
    located: Located,
) -> None:
    """Write an HTML page about a study, or one that compares several, with its figures and tables."""
    from hpo.ledger.studies import open_study
    from hpo.report import build
    from hpo.report.source import read

    names = list(dict.fromkeys(study))
    logger.info("reading %s", ", ".join(names))
    sources = [read(open_study(located.url, name), located.paths(name)) for name in names]
    page = build.report(sources, build.report_folder([one.paths for one in sources]))
    sys.stdout.write(f"{os.path.relpath(page)}\n")
