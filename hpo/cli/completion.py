"""What the shell offers where a word is begun; it imports nothing that takes long and opens no database."""

from pathlib import Path

import typer

from hpo.api.options import Location
from trainables.config import DATASETS, PAPER_BACKBONES
from trainables.trainable import BUILT_IN


def backbones(incomplete: str) -> list[str]:
    """Return the backbones that begin so."""
    return [name for name in (*PAPER_BACKBONES, "all", "torchvision:", "small:") if name.startswith(incomplete)]


def trainables(incomplete: str) -> list[str]:
    """Return the trainables that begin so."""
    return [name for name in BUILT_IN if name.startswith(incomplete)]


def datasets(incomplete: str) -> list[str]:
    """Return the datasets that begin so."""
    return [name for name in (*DATASETS, "imagefolder:") if name.startswith(incomplete)]


def studies(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the studies whose folders are here and whose names begin so."""
    folder = ctx.params.get("studies_dir")
    location = Location(studies_dir=Path(folder) if folder else None)
    owned = sorted(marker.parent.name for marker in location.studies.glob(f"*/{location.paths('x').marker.name}"))
    return [name for name in owned if name.startswith(incomplete)]
