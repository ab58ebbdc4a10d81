"""A trial's configuration and its results: plain frozen records, without torch, so that the driver stays light."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_dir

from trainables.errors import InputError

FreezeMode = Literal["none", "partial", "backbone"]
HeadKind = Literal["projection", "linear", "paper"]
Augment = Literal["none", "standard"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
Exif = Literal["turn", "ignore"]
Layouts = Literal["recognised", "fixed"]
ModelFormat = Literal["onnx", "torchscript", "torch-export"]

FREEZE_MODES: tuple[FreezeMode, ...] = ("none", "partial", "backbone")

PAPER_BACKBONES: dict[str, str] = {
    "simclr": "resnet50",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "vgg": "vgg13",
    "inception": "inception_v3",
    "vit": "vit_b_32",
    "swin": "swin_t",
}
"""The seven backbones of Jimenez & Hale (2023) by the paper's names, and torchvision's name for each architecture."""

DATASETS: tuple[str, ...] = ("pets", "fashion-mnist", "cifar10", "digits")
"""The named datasets; ``imagefolder:DIR`` is the fifth kind."""

SMALLEST_MICRO_BATCH = 2
"""Batch norm cannot learn from a single image."""

DEFAULT_CACHE_BYTES = 20 * 2**30
"""20 GiB: ten datasets of Oxford-IIIT Pet's size as 224-px images, or one of 130,000 images."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The evaluation transform that goes with some weights."""

    resize: int
    """Length of the shorter side after resizing, in pixels."""
    crop: int
    """Side of the square cut from the centre, in pixels."""
    interpolation: str
    """``bilinear`` or ``bicubic``, antialiased."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Geometry(
    resize=256, crop=224, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""The usual ImageNet evaluation transform."""


@dataclass(frozen=True, kw_only=True)
class SplitSeeds:
    """What `numpy.random.default_rng` is given for each division of the images."""

    validation: int = 0
    labels: int | tuple[int, ...] = (0, 1)
    """For the labels that `label_fraction` keeps."""
    test: int = 0
    """For the test split of a dataset that has none of its own."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images a study trains on, how they are split, and how they are shown to the network."""

    dataset: str
    """One of `DATASETS`, or ``imagefolder:DIR``."""
    val_fraction: float = 0.25
    """Share of the training split that selects (validation), in (0, 1); not used where the dataset has a validation
    split of its own."""
    label_fraction: float = 1.0
    """Share of the training labels that is kept, in (0, 1]; validation and test keep all of theirs."""
    augment: Augment = "none"
    split_seeds: SplitSeeds = SplitSeeds()
    exif: Exif = "ignore"
    """``turn``: image files are turned upright, as their EXIF orientation says; ``ignore``, as in studies of hpo 0.2.0
    and before: they are not."""
    layouts: Layouts = "fixed"
    """How an image folder is listed: ``recognised`` by `trainables.data.folders.recognise`; ``fixed`` as in studies of
    hpo 0.2.0 and before."""
    deduplicate: bool = False
    """Whether training images with the same bytes as an image that judges were left out, see `skipped_images`."""
    skipped_images: tuple[str, ...] = ()
    """Images that are left out, since they cannot be read or are copies, as SPLIT/NAME, such as ``train/cat/1.jpg`` or
    ``test/cat/1.jpg``; given validation images belong to ``train``."""
    splits_sha256: str | None = None
    """Digest of the names and labels of training and validation, in their order; None: no check."""
    train_sha256: str | None = None
    """Digest of the training split: each image's name, label and size in bytes; None: no check."""
    test_sha256: str | None = None
    """Digest of the test split; None: no check."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network a study trains, and how it computes."""

    backbone: str
    """A name in `PAPER_BACKBONES`, ``torchvision:NAME``, or ``package.module:function``."""
    weights: str = "default"
    """``default``, ``none``, a published name, or a file's path, with ``#KEY`` for one of its state dicts."""
    head: HeadKind = "projection"
    image_size: int | None = None
    """Side of the square that the network sees, in pixels; None: what the weights' own transform gives."""
    precision: Precision = "auto"
    weights_name: str | None = None
    """What `weights` was found to mean, such as ``IMAGENET1K_V2``; None: not looked up."""
    weights_sha256: str | None = None
    """Digest of the weights' file; None: there is none, or it was not looked up."""
    code_sha256: str | None = None
    """Digest of the file of a user's own backbone; None: it has none, or it was not looked up."""
    geometry: Geometry | None = None
    """The weights' own transform at `image_size`; None, as in studies of hpo 0.1.0: that of the default weights."""


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """What the machine gives a trial. A trial's numbers depend on none of it but `micro_batch`, as described there."""

    data_dir: str | None = None
    """Where datasets, weights and image stores lie; None: see `data_root`."""
    cache_bytes: int = DEFAULT_CACHE_BYTES
    """What decoded images and features may take, in bytes."""
    threads: int = 1
    """CPU threads that torch may use: the CPUs that the trial was given."""
    nice: int = 0
    """Least niceness of the process that trains, 0 to 19: how far it steps back behind other programs."""
    micro_batch: int | None = None
    """Images that are on the device at a time; a larger batch is split and its gradients are summed. None: no split.
    The step equals the whole batch's but for batch norm, which takes its statistics from a part, and for random numbers
    (augmentation, dropout), which are drawn for each part."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """All that decides the numbers of one trial: the same configuration gives the same results on the same machine."""

    data: DataConfig
    model: ModelConfig
    learning_rate: float
    batch_size: int
    epochs: int
    freeze_mode: FreezeMode = "none"
    seed: int = 0
    machine: MachineConfig = MachineConfig()


@dataclass(frozen=True, kw_only=True)
class TrainableConfig:
    """What a trainable is given (`trainables.trainable`): all that decides the numbers of one trial."""

    data: DataConfig
    model: ModelConfig
    params: Mapping[str, float | int | str]
    """What the search space's parameters were drawn as, by their names."""
    seed: int = 0
    machine: MachineConfig = MachineConfig()

    @property
    def epochs(self) -> int:
        """How many epochs are asked for."""
        return int(self.params["epochs"])

    @property
    def batch_size(self) -> int | None:
        """Images per step; None: that is no parameter."""
        size = self.params.get("batch_size")
        return None if size is None else int(size)


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one epoch of training gave; what has a default need not be measured by every trainable."""

    epoch: int
    """Counted from 1."""
    val_accuracy: float
    """What a study maximises, in [0, 1]: of fine-tuning the share of validation images classified right; NaN where
    there is no validation split."""
    val_loss: float | None = None
    """Mean cross-entropy over the validation images, in nats; NaN where there is no validation split."""
    train_loss: float | None = None
    """Of fine-tuning the mean cross-entropy over the epoch's training images as they were trained on, in nats."""
    learning_rate: float | None = None
    """The optimiser's learning rate during this epoch."""
    seconds: float = 0.0
    """Wall time of the epoch, validation included; 0: whoever runs the trainable measures it."""
    images_per_second: float | None = None
    """Training images by the training part's wall time."""
    val_predictions: str = ""
    """The class of each validation image (`trainables.predictions`), of an epoch that is its trial's best so far; empty
    for the others."""
    extra: Mapping[str, float | str] = field(default_factory=dict)
    """Whatever else was measured, by its name. Numbers are shown in curves; texts are kept."""

    @property
    def is_finite(self) -> bool:
        """Whether the losses are numbers; a trial whose loss is NaN or infinite has diverged."""
        return all(loss is None or math.isfinite(loss) for loss in (self.train_loss, self.val_loss))


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A final model."""

    model: bytes
    """A safetensors file."""
    accuracy: float
    """Accuracy on the images that it learned from, in [0, 1]."""
    is_finite: bool
    """Whether its last loss is a number."""
    micro_batch: int | None = None
    """Images at a time that fitted the memory, where the batch had to be split; None: it had not."""


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """What a trial needs of a GPU's memory, as a function of how many images are on it at a time.

    The CUDA context and any margin come on top.
    """

    fixed_bytes: int
    """Parameters and buffers, and the gradients and Adam's two moments of what trains."""
    bytes_per_image: float
    """What one more image in a training step adds: saved for the backward pass, and passing."""
    least_bytes: int
    """What evaluation needs, without gradients and whatever the batch, the fixed part included."""

    def bytes_at(self, images: int) -> int:
        """Return what the trial needs with `images` at a time in its training steps."""
        return max(self.fixed_bytes + math.ceil(self.bytes_per_image * images), self.least_bytes)


def data_root(data_dir: str | None) -> Path:
    """Return this machine's folder for datasets, weights and stores, absolute.

    That is `data_dir`, else ``$HPO_DATA_DIR``, else ``~/.cache/hpo`` if it exists, as it does where hpo 0.1.0 ran, else
    ``hpo`` in this system's folder for caches: ``$XDG_CACHE_HOME`` or ``~/.cache``, on macOS ``~/Library/Caches``.

    Raises:
        InputError: None is given, and this user has no home folder.
    """
    named = data_dir or os.environ.get("HPO_DATA_DIR")
    try:
        if named:
            return Path(named).expanduser().absolute()
        before = Path("~/.cache/hpo").expanduser()
        return before if before.exists() else Path(user_cache_dir("hpo", appauthor=False))
    except (RuntimeError, OSError) as error:
        raise InputError(f"no data folder ({error}); name one with --data-dir or HPO_DATA_DIR.") from error
