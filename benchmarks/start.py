"""How long a study on a folder of many small images takes to be ready, beside decoding them, which cannot be avoided.

``python -m benchmarks.start [--images 20000] [--folder DIR]``: `new_study` on ten class folders of 32-px JPEGs, from
the check of the options to the specification, first with nothing stored, then again with the images decoded. The
figures are seconds of CPU, which other programs disturb little, and their ratio to one plain decoding of all images
with torchvision's transform, in the same run, so that they compare across machines and with another checkout.
``--folder`` keeps the images for the next checkout.
"""

import argparse
import inspect
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from PIL import Image

import search_spaces
from hpo.spec import RunOptions, SearchConfig
from hpo.studies.new import new_study
from trainables.config import DataConfig, ModelConfig
from trainables.data.transforms import shrink
from trainables.networks.identity import geometry_of

CLASSES, SIZE = 10, 32
MODEL = ModelConfig(backbone="resnet18", weights="none", image_size=SIZE)


def write_images(root: Path, count: int) -> None:
    """Write `count` different images in class folders, unless they are there."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = root / f"class {number % CLASSES}" / f"{number:06d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)


def decode_all(root: Path) -> None:
    """Decode every image once, on all CPUs, and keep none."""
    geometry = geometry_of(MODEL)

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            shrink(image.convert("RGB"), geometry)

    with ThreadPoolExecutor(cpu_count()) as pool:
        for _ in pool.map(decode, root.rglob("*.jpg")):
            pass


def begin(root: Path, data_dir: Path) -> None:
    """Check a new study on the images, as `hpo run` does before it starts Ray."""
    asked: dict[str, Any] = {"seed": 0, "skip_bad_images": False, "geometry_of": None, "exif": None, "existing": None}
    known = inspect.signature(new_study).parameters
    new_study(
        DataConfig(dataset=f"imagefolder:{root}"),
        MODEL,
        SearchConfig(space=search_spaces.to_dict(search_spaces.for_study("resnet18", "none", None))),
        RunOptions(trials=1, data_dir=str(data_dir)),
        **{name: value for name, value in asked.items() if name in known},  # Earlier checkouts have fewer.
    )


def seconds(work: Callable[[], None]) -> float:
    """Return the CPU time that `work` takes, of all threads."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.folder or Path(scratch) / "images"
        write_images(root, options.images)
        decode_all(root)  # The first pass brings the files into the page cache.
        plain = seconds(lambda: decode_all(root))
        first = seconds(lambda: begin(root, Path(scratch) / "data"))
        again = seconds(lambda: begin(root, Path(scratch) / "data"))
    for name, measured in (("plain decoding", plain), ("ready, first time", first), ("ready, decoded before", again)):
        print(f"{name:22} {measured:6.2f} s  {measured / plain:5.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
