"""This machine's decoded images and features."""

from trainables.config import data_root
from trainables.data.array_store import StoredArray, evict, stored_arrays


def cached(data_dir: str | None) -> list[StoredArray]:
    """Return what is kept under `data_dir`, the least recently used first."""
    return stored_arrays(data_root(data_dir) / "stores")


def clear_cache(data_dir: str | None) -> list[StoredArray]:
    """Remove all of it, and return what was removed; processes that use an array keep it until they end."""
    return evict(data_root(data_dir) / "stores", 0)
