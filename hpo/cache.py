"""This machine's decoded images and features, for people to see and to clear."""

import datetime

from rich.console import Console
from rich.table import Table

from trainables.array_store import StoredArray, evict, stored_arrays
from trainables.config import data_root


def cached(data_dir: str | None) -> list[StoredArray]:
    """Return what is kept under `data_dir`, the least recently used first."""
    return stored_arrays(data_root(data_dir) / "stores")


def clear_cache(data_dir: str | None) -> list[StoredArray]:
    """Remove all of it, and return what was removed; processes that use an array keep it until they end."""
    return evict(data_root(data_dir) / "stores", 0)


def show(arrays: list[StoredArray], console: Console, *, cleared: bool) -> None:
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
