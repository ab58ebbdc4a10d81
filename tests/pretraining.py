"""A small pretraining that several tests share: 40 images of two classes, a step of a tenth of a second."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainables.config import DataConfig, MachineConfig
from trainables.contrastive.config import PretrainConfig, PretrainMachine, composed


def write_images(folder: Path) -> Path:
    """Write 40 images of 16 px, in two classes of other colours, and return their folder."""
    generator = np.random.default_rng(0)
    for name, colour in (("blue", (60, 90, 200)), ("red", (200, 80, 60))):
        (folder / name).mkdir(parents=True)
        for index in range(20):
            pixels = np.clip(generator.normal(colour, 60, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:02d}.png")
    return folder


def config(folder: Path, **changes: Any) -> PretrainConfig:
    """Return the configuration, but for `changes`."""
    options = {
        **{"batch_size": 10, "epochs": 3, "warmup_epochs": 1.0, "projection": 16, "learning_rate": 1e-2},
        **{"scaling": "linear", "min_crop": 0.08, "strength": 1.0, "blur": 0.5},
    }
    plain = composed(
        DataConfig(dataset=f"imagefolder:{folder}", layouts="recognised", exif="turn"),
        "small:resnet18",
        8,
        options,
        knn_every=2,
        precision="fp32",
        seed=0,
    )
    return dataclasses.replace(plain, **changes)


def machine(folder: Path, **changes: Any) -> PretrainMachine:
    """Return one thread of one process, with the data folder beside the images."""
    return PretrainMachine(machine=MachineConfig(data_dir=str(folder.parent / "data")), **changes)
