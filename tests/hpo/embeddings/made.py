"""Embeddings that need no network: three groups of coloured squares."""

from pathlib import Path
from typing import Any

import numpy as np

from hpo.embeddings.result import Embeddings

HOSTILE = "<script>alert(1)</script>"
CLASSES = (HOSTILE, "$x_1$ & 猫", "a class whose name is so long that it does not fit on one line of a telephone")


def embeddings(count: int = 60, **changes: Any) -> Embeddings:
    """Return embeddings of `count` images; row 1 is a copy of row 0 under another class, and the last row is odd."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 3
    array = (generator.normal(size=(3, 16))[labels] + 0.2 * generator.normal(size=(count, 16))).astype(np.float32)
    array[1:2] = array[0]
    array[-1] = 3 * generator.normal(size=16)
    pixels = generator.integers(0, 255, (count, 3, 40, 40), dtype=np.uint8)
    given: dict[str, Any] = {
        "array": array,
        "ids": tuple(f"{HOSTILE.replace('/', '')}\x07{one}.png" for one in range(count)),
        "labels": labels.astype(np.int64),
        "classes": CLASSES,
        "splits": tuple("test" if one % 5 == 1 else "train" for one in range(count)),
        "paths": tuple(Path(f"/photos/{one}.png") if one else None for one in range(count)),
        "about": {
            "hpo": "0.0.0",
            "backbone": "resnet18",
            "weights": HOSTILE,
            "weights_sha256": "0" * 64,
            "model": None,
            "geometry": {"resize": 40, "crop": 40},
            "images_of": f"imagefolder:/photos/{HOSTILE}",
            "splits": {"train": 48, "test": 12},
            "features": 16,
        },
        "pixels": (pixels[: count // 2], pixels[count // 2 :]),
    }
    return Embeddings(**{**given, **changes})
