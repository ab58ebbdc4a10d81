"""A small dataset in exactly the layout of Oxford-IIIT Pet: images/, annotations/trainval.txt, annotations/test.txt."""

import shutil
from collections.abc import Sequence
from pathlib import Path

BREEDS = ("Abyssinian", "american_bulldog")


def write(root: Path, photographs: Sequence[Path], *, trainval: int = 6, test: int = 3) -> Path:
    """Write two breeds with so many copies of a photograph each below a data folder, and return that."""
    folder = root / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for part, numbers in (("trainval", range(1, trainval + 1)), ("test", range(trainval + 1, trainval + test + 1))):
        rows = []
        for label, breed in enumerate(BREEDS, start=1):
            for number in numbers:
                shutil.copy(photographs[label - 1], folder / "images" / f"{breed}_{number}.jpg")
                rows.append(f"{breed}_{number} {label} 1 1")
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root
