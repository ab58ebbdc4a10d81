"""The folder of embeddings: the array or table, what it is of, the lists, and the page. It is there whole or not."""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.choices import EmbeddingFormat
from hpo.embeddings.findings import find
from hpo.embeddings.page import make_map, render
from hpo.embeddings.result import Embeddings
from hpo.errors import UsageError
from trainables.data.folders import readable_name

PAGE = "map.html"
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class SavedEmbeddings:
    """What was written."""

    folder: Path
    embeddings: Path
    """``embeddings.npy`` with ``images.csv`` beside it, or ``embeddings.parquet``."""
    page: Path
    """``map.html``."""
    duplicates: int
    """Pairs of likely duplicates."""


def check_new(folder: Path) -> Path:
    """Return the absolute path of a folder that can be made, or is there and empty.

    Raises:
        UsageError: It holds something, or cannot be made.
    """
    path = folder.expanduser().absolute()
    if path.is_dir() and not any(path.iterdir()):
        return path
    if path.exists() or path.is_symlink():
        raise UsageError(f"--output {folder}: is there already; give the name of a new folder, or remove it.")
    if not path.parent.is_dir():
        raise UsageError(f"--output {folder}: there is no folder {path.parent}; make it first.")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--output {folder}: nothing can be written to {path.parent}; choose another folder.")
    return path


def save_embeddings(
    embeddings: Embeddings, folder: Path | str, *, form: EmbeddingFormat = "npy", seed: int = 0
) -> SavedEmbeddings:
    """Write embeddings, what they are of, and the page with their map to a new folder.

    Args:
        embeddings: Of at least one image.
        folder: A new one; it appears once all is written.
        form: ``npy``: ``embeddings.npy`` and ``images.csv``, a row for each image in the same order; ``parquet``: one
            table with the columns ``id``, ``path``, ``split``, ``class``, ``embedding``.
        seed: Of t-SNE, and of which of more than 2,000 images the page shows.

    Raises:
        UsageError: The folder is there, or cannot be made.
    """
    place = check_new(Path(folder))
    findings = find(embeddings.array)
    fresh = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        write = _write_parquet if form == "parquet" else _write_npy
        written = write(embeddings, fresh)
        about = json.dumps(dict(embeddings.about), indent=2, ensure_ascii=False) + "\n"
        (fresh / "embeddings.json").write_text(about, encoding="utf-8", errors="replace")
        pairs = ((*_named(embeddings, a), *_named(embeddings, b), cosine) for a, b, cosine in findings.duplicates)
        _write_csv(fresh / "duplicates.csv", [*_heads("a"), *_heads("b"), "cosine"], pairs)
        far = ((*_named(embeddings, row), distance) for row, distance in findings.outliers)
        _write_csv(fresh / "outliers.csv", [*_heads(""), "distance"], far)
        page = render(embeddings, findings, make_map(embeddings, findings, seed))
        (fresh / PAGE).write_text(page, encoding="utf-8", errors="replace")
        # mkdtemp's are for their owner alone.
        fresh.chmod(0o777 & ~_umask())
        fresh.replace(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return SavedEmbeddings(place, place / written, place / PAGE, len(findings.duplicates))


def _write_npy(embeddings: Embeddings, folder: Path) -> str:
    np.save(folder / "embeddings.npy", embeddings.array)
    rows = ((row, *_described(embeddings, row)) for row in range(len(embeddings)))
    _write_csv(folder / "images.csv", ["row", "id", "path", "split", "class"], rows)
    return "embeddings.npy"


def _write_parquet(embeddings: Embeddings, folder: Path) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    width = embeddings.array.shape[1]
    texts = [pa.field(name, pa.string()) for name in ("id", "path", "split", "class")]
    about = {"hpo": json.dumps(dict(embeddings.about))}
    schema = pa.schema([*texts, pa.field("embedding", pa.list_(pa.float32(), width))], metadata=about)
    with parquet.ParquetWriter(folder / "embeddings.parquet", schema, use_dictionary=["split", "class"]) as writer:
        for start in range(0, len(embeddings), _ROWS_AT_ONCE):
            block = np.ascontiguousarray(embeddings.array[start : start + _ROWS_AT_ONCE])
            rows = [_described(embeddings, row) for row in range(start, start + len(block))]
            columns = [pa.array([value or None for value in column], pa.string()) for column in zip(*rows, strict=True)]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), width)
            writer.write_table(pa.Table.from_arrays([*columns, vectors], schema=schema))
    return "embeddings.parquet"


def _described(embeddings: Embeddings, row: int) -> tuple[str, str, str, str]:
    """Return an image's name, path, split and class; empty where it has none."""
    path = embeddings.paths[row]
    shown = readable_name(str(path)) if path is not None else ""
    return embeddings.ids[row], shown, embeddings.splits[row], _class(embeddings, row)


def _named(embeddings: Embeddings, row: int) -> tuple[int, str, str, str]:
    return row, embeddings.ids[row], embeddings.splits[row], _class(embeddings, row)


def _heads(which: str) -> list[str]:
    return [f"{which}_{name}" if which else name for name in ("row", "id", "split", "class")]


def _class(embeddings: Embeddings, row: int) -> str:
    name = embeddings.class_of(row)
    return readable_name(name) if name is not None else ""


def _write_csv(path: Path, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heads)
        writer.writerows([f"{one:.6f}" if isinstance(one, float) else one for one in row] for row in rows)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
