"""What a pretraining is and what it gives: plain frozen records, without torch."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trainables.config import DataConfig, Geometry, MachineConfig, Precision

OptimizerName = Literal["lars", "adam"]
Scaling = Literal["linear", "sqrt"]
Stem = Literal["auto", "small", "imagenet"]

SMALL_IMAGE = 64
"""Up to this side, in pixels, a network has the small-image stem and views are not blurred (Chen et al. 2020,
appendix B.9, for CIFAR-10)."""
_USUAL: dict[str, Any] = {
    "min_crop": 0.08,
    "flip": True,
    "strength": 1.0,
    "blur": 0.5,
    "epochs": 100,
    "batch_size": 256,
    "temperature": 0.5,
    "projection": 128,
    "optimizer": "adam",
    "weight_decay": 1e-6,
}
_USUAL_SMALL: dict[str, Any] = {"min_crop": 0.5, "strength": 0.5, "blur": 0.0}
"""What is otherwise up to `SMALL_IMAGE` pixels, by `benchmarks.pretrain_defaults`; strength and blur as in Chen et al.
2020, appendix B.9."""
_USUAL_RATES: dict[OptimizerName, float] = {"lars": 0.3, "adam": 1e-3}
_SMALL_DATASETS = ("fashion-mnist", "cifar10", "digits")
_SMALL_SIZE, _USUAL_SIZE = 32, 224
REFERENCE_BATCH = 256
"""Images of the batch that a learning rate is stated for (Chen et al. 2020, section 2.2)."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How a view of an image is made: Chen et al. 2020, appendix A, with its defaults for ImageNet."""

    min_area: float = 0.08
    """Least share of the image's area in a random crop, in (0, 1]."""
    flip: bool = True
    """Whether half of the views are mirrored left to right."""
    strength: float = 1.0
    """Of the colour jitter, at least 0: brightness, contrast and saturation change by up to 0.8 of it, hue by 0.2."""
    blur: float = 0.5
    """Share of views that are blurred, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """All that decides the numbers of a pretraining, but the machine."""

    data: DataConfig
    """Its training images without those that validate are learned from; both serve the kNN accuracy."""
    backbone: str
    """``torchvision:NAME`` or ``small:NAME`` of a ResNet."""
    image_size: int
    """Side of a view, in pixels."""
    views: ViewConfig
    temperature: float
    """Of NT-Xent, above 0."""
    projection: int
    """Numbers per projection."""
    batch_size: int
    """Images per step; each gives two views."""
    epochs: int
    warmup_epochs: float
    """Epochs in which the learning rate rises."""
    optimizer: OptimizerName
    learning_rate: float
    """For a batch of `REFERENCE_BATCH` images."""
    scaling: Scaling
    """Whether the learning rate grows with the batch size or with its square root."""
    weight_decay: float
    """None is on biases and batch norms."""
    knn_every: int
    """Epochs between two measurements of the kNN accuracy; it is measured after the last in any case."""
    precision: Precision
    seed: int

    @property
    def peak_learning_rate(self) -> float:
        """The highest learning rate, for the batch size at hand."""
        times = self.batch_size / REFERENCE_BATCH
        return self.learning_rate * (times if self.scaling == "linear" else math.sqrt(times))


@dataclass(frozen=True, kw_only=True)
class PretrainMachine:
    """What the machine gives a pretraining."""

    machine: MachineConfig
    """`micro_batch` bounds the images that one process has on its device at a time, two views each."""
    processes: int = 1
    """Processes that share each batch, one per card."""


@dataclass(frozen=True, kw_only=True)
class PretrainEpoch:
    """What one epoch of a pretraining gave; the first four are means over its steps."""

    epoch: int
    """Counted from 1."""
    loss: float
    """NT-Xent, in nats."""
    top1: float
    """Contrastive accuracy: the share of views to which the other view of their image is the nearest, in [0, 1]."""
    alignment: float
    """Mean squared distance of the two views of an image on the sphere, in [0, 4] (Wang & Isola 2020, alpha 2)."""
    uniformity: float
    """Log of the mean of exp(-2 d^2) over pairs of images, in [-8, 0]; 0: all are one point (ibid., t 2)."""
    learning_rate: float
    """Of the last step."""
    seconds: float
    """Wall time of the epoch, the kNN accuracy included."""
    images_per_second: float
    """Images, not views, by the wall time of the training."""
    knn_accuracy: float | None = None
    """On the validation images; None: not measured after this epoch."""

    @property
    def is_finite(self) -> bool:
        """Whether the loss is a number; if not, the pretraining has diverged."""
        return math.isfinite(self.loss)


@dataclass(frozen=True, kw_only=True)
class PretrainedEncoder:
    """The result of a pretraining."""

    encoder: bytes
    """A safetensors file with its preprocessing, for ``--weights``."""
    random_knn_accuracy: float
    """Of the same network before its first step, on the validation images."""


def composed(
    data: DataConfig,
    backbone: str,
    image_size: int,
    options: Mapping[str, Any],
    *,
    knn_every: int,
    precision: Precision,
    seed: int,
) -> PretrainConfig:
    """Return what the options of `hpo pretrain` mean together; those that are missing or None are the usual ones.

    Args:
        data: The images.
        backbone: ``torchvision:NAME`` or ``small:NAME``.
        image_size: Side of a view, in pixels.
        options: By the names of `usual`, `learning_rate`, `scaling` and `warmup_epochs`; others are not looked at.
        knn_every: Epochs between two measurements.
        precision: What the network computes in.
        seed: That of the network and the views.
    """
    given = usual(image_size) | {name: value for name, value in options.items() if value is not None}
    optimizer: OptimizerName = given["optimizer"]
    epochs: int = given["epochs"]
    return PretrainConfig(
        data=data,
        backbone=backbone,
        image_size=image_size,
        views=ViewConfig(
            min_area=given["min_crop"],
            flip=given["flip"],
            strength=given["strength"],
            blur=given["blur"],
        ),
        temperature=given["temperature"],
        projection=given["projection"],
        batch_size=given["batch_size"],
        epochs=epochs,
        warmup_epochs=min(given.get("warmup_epochs", min(10, epochs / 10)), epochs / 2),
        optimizer=optimizer,
        learning_rate=given.get("learning_rate", _USUAL_RATES[optimizer]),
        scaling=given.get("scaling", "linear" if optimizer == "lars" else "sqrt"),
        weight_decay=given["weight_decay"],
        knn_every=knn_every,
        precision=precision,
        seed=seed,
    )


def usual(image_size: int) -> dict[str, Any]:
    """Return what `hpo pretrain` takes where nothing else is asked for; see `composed` for what depends on the rest."""
    return _USUAL | (_USUAL_SMALL if image_size <= SMALL_IMAGE else {})


def usual_size(dataset: str) -> int:
    """Return the side of a view of a dataset's images where none is asked for, in pixels."""
    return _SMALL_SIZE if dataset in _SMALL_DATASETS else _USUAL_SIZE


def stored_geometry(image_size: int) -> Geometry:
    """Return the transform of the images that views are cut from."""
    geometry = view_geometry(image_size)
    return dataclasses.replace(geometry, crop=geometry.resize)


def view_geometry(image_size: int) -> Geometry:
    """Return the transform of an encoder's inputs: ImageNet's proportions, but all of an image of up to `SMALL_IMAGE`.

    Mean and deviation are ImageNet's; they shift and scale the input, which batch norm takes in.
    """
    resize = image_size if image_size <= SMALL_IMAGE else round(image_size * 256 / 224)
    return Geometry(
        resize=resize, crop=image_size, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
