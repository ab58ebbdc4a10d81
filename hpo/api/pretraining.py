"""Options of a pretraining, in groups like those of `hpo.api.options`, and what they mean together."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from hpo.api.options import DataDir, Help
from trainables.config import DEFAULT_CACHE_BYTES, DataConfig, Exif, MachineConfig, Precision
from trainables.contrastive.config import (
    SMALL_IMAGE,
    OptimizerName,
    PretrainConfig,
    PretrainMachine,
    Scaling,
    Stem,
    composed,
    stored_geometry,
    usual_size,
)
from trainables.errors import InputError

if TYPE_CHECKING:
    from hpo.pretrain.run import Pretrained


@dataclass(frozen=True, kw_only=True)
class PretrainImages:
    """Which images, and how views of them are made."""

    dataset: Annotated[
        str,
        Help(
            "pets, fashion-mnist, cifar10, digits, or imagefolder:DIR with a folder for each of at least two classes,"
            " which serve the division and the kNN accuracy alone."
        ),
    ] = "pets"
    val_fraction: Annotated[float, Help("Share of the training split that is kept aside for the kNN accuracy.")] = 0.25
    deduplicate: Annotated[bool, Help("Train on no copy of an image that validates or tests.")] = False
    skip_bad_images: Annotated[bool, Help("Leave images out that cannot be read.")] = False
    exif: Annotated[Exif | None, Help("Turn images as their EXIF orientation says; default for imagefolder: turn.")] = (
        None
    )
    image_size: Annotated[
        int | None, Help("Side of a view, in pixels; default 32 of the small datasets, else 224.", least=8)
    ] = None
    min_crop: Annotated[
        float | None, Help("Least share of an image's area in a view, above 0 up to 1; default 0.08, up to 64 px 0.5.")
    ] = None
    flip: Annotated[bool, Help("Whether views are mirrored.")] = True
    strength: Annotated[
        float | None, Help("Of the colour jitter, 0 for none; default 1, up to 64 px 0.5.", least=0, most=2)
    ] = None
    blur: Annotated[
        float | None, Help("Share of views that are blurred; default 0.5, up to 64 px 0.", least=0, most=1)
    ] = None


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Which network, and how it learns."""

    stem: Annotated[Stem, Help("First layers: small for images up to 64 px (auto), or those for ImageNet.")] = "auto"
    epochs: Annotated[int, Help("Passes over the images.", least=1)] = 100
    warmup_epochs: Annotated[
        float | None,
        Help("Epochs in which the learning rate rises; default a tenth of them, at most 10.", least=0),
    ] = None
    batch_size: Annotated[int, Help("Images per step; two views of each.", least=2)] = 256
    temperature: Annotated[float, Help("Of the loss, above 0.")] = 0.5
    projection: Annotated[int, Help("Numbers per projection.", least=1)] = 128
    optimizer: Annotated[OptimizerName, Help("What takes the steps.")] = "adam"
    learning_rate: Annotated[float | None, Help("For 256 images a batch; default 0.3 of lars, 0.001 of adam.")] = None
    scaling: Annotated[
        Scaling | None, Help("How the rate grows with the batch; default linear of lars, sqrt of adam.")
    ] = None
    weight_decay: Annotated[float, Help("Of weights, not of biases and batch norms.", least=0)] = 1e-6
    knn_every: Annotated[int, Help("Epochs between two measurements of the kNN accuracy.", least=1)] = 10
    precision: Annotated[Precision, Help("What the network computes in.")] = "auto"


@dataclass(frozen=True, kw_only=True)
class PretrainMachineOptions:
    """On how much it runs."""

    data_dir: DataDir = None
    cache_bytes: Annotated[int, Help("Gigabytes (2^30) for decoded images and features.")] = DEFAULT_CACHE_BYTES
    micro_batch: Annotated[
        int | None, Help("Images on a device at a time; the loss stays that of the whole batch.", least=2)
    ] = None
    processes: Annotated[
        int | None, Help("Processes that share each batch; default: one per card, one on a CPU.", least=1)
    ] = None
    nice: Annotated[int, Help("Niceness of the processes; 19 leaves others the CPUs.", least=0, most=19)] = 0


def pretrain(
    arch: str,
    *,
    images: PretrainImages,
    options: PretrainOptions,
    machine: PretrainMachineOptions,
    seed: int = 0,
    output: Path | None = None,
    command: str | None = None,
) -> "Pretrained":
    """Pretrain a ResNet by SimCLR, on images without their labels.

    Args:
        arch: torchvision's name of a ResNet.
        images: Which images.
        options: How the network learns.
        machine: On how much it runs.
        seed: Decides the splits, as in studies, the network and the views.
        output: The encoder's file; None: ``simclr-ARCH-DATASET.safetensors`` here.
        command: What the user types to continue.

    Raises:
        InputError: Something that was given cannot be used.
        HpoError: The pretraining failed.
    """
    from hpo.interrupts import stoppable
    from hpo.live.screen import Screen
    from hpo.pretrain.files import files_of
    from hpo.pretrain.run import run_pretraining

    with stoppable(command), Screen() as screen:
        # Said before the imports, which take seconds.
        screen.doing(f"looking at {images.dataset}")
        config = config_of(arch, images, options, seed)
        given = machine_of(machine, config)
        file = output or Path(_name(arch, config.data.dataset))
        files_of(file)
        config = looked_up(config, given, skip_bad=images.skip_bad_images)
    return run_pretraining(config, given, file, command)


def config_of(arch: str, images: PretrainImages, options: PretrainOptions, seed: int) -> PretrainConfig:
    """Return what the options mean, defaults that depend on others included.

    Raises:
        InputError: A value is out of its range, or `arch` cannot be pretrained.
    """
    from hpo.spec import split_seeds
    from trainables.contrastive.encoder import check_arch

    check_arch(arch)
    for name, value in {**vars(images), **vars(options)}.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"--{name.replace('_', '-')} must be a finite number, but is {value}.")
    for name, value, fits in (
        ("--min-crop", images.min_crop, images.min_crop is None or 0 < images.min_crop <= 1),
        ("--temperature", options.temperature, options.temperature > 0),
        ("--learning-rate", options.learning_rate, options.learning_rate is None or options.learning_rate > 0),
    ):
        if not fits:
            raise InputError(f"{name} must be above 0{' and at most 1' if 'crop' in name else ''}, but is {value}.")
    size = images.image_size or usual_size(images.dataset)
    is_small = options.stem == "small" or (options.stem == "auto" and size <= SMALL_IMAGE)
    is_folder = images.dataset.startswith("imagefolder:")
    return composed(
        DataConfig(
            dataset=_absolute(images.dataset),
            val_fraction=images.val_fraction,
            deduplicate=images.deduplicate,
            exif=images.exif or ("turn" if is_folder else "ignore"),
            layouts="recognised",
            split_seeds=split_seeds(seed),
        ),
        f"{'small' if is_small else 'torchvision'}:{arch}",
        size,
        {**vars(images), **vars(options)},
        knn_every=options.knn_every,
        precision=options.precision,
        seed=seed,
    )


def looked_up(config: PretrainConfig, machine: PretrainMachine, *, skip_bad: bool) -> PretrainConfig:
    """Return `config` with the digest of its images, and without those that are left out, as in a study.

    Raises:
        UsageError: Images cannot be read, and `skip_bad` is off; or there are no files to find copies among.
        InputError: The dataset cannot be used, or has fewer images than a batch.
    """
    from hpo.studies.preflight import deduplicated, readable
    from trainables.contrastive.pretraining import check_batch
    from trainables.data.datasets import training_images
    from trainables.data.splits import split

    given = machine.machine
    images = training_images(config.data, given.data_dir)
    check_batch(config, machine.processes, len(split(images, config.data).train))
    data = dataclasses.replace(config.data, train_sha256=images.content_sha256)
    if data.deduplicate:
        data = deduplicated(data, given)
    data = readable(data, stored_geometry(config.image_size), given, skip_bad=skip_bad, with_test=False)
    return dataclasses.replace(config, data=data)


def machine_of(options: PretrainMachineOptions, config: PretrainConfig) -> PretrainMachine:
    """Return what this machine gives a pretraining.

    Raises:
        InputError: It has not what is asked for, or so many processes cannot share a batch.
    """
    from trainables.contrastive.processes import check_share
    from trainables.contrastive.together import check_processes, threads_of, usual_processes
    from trainables.training.device import check_precision

    check_precision(config.precision)
    processes = options.processes or usual_processes(config.batch_size)
    check_processes(processes)
    check_share(config.batch_size, processes)
    return PretrainMachine(
        machine=MachineConfig(
            data_dir=options.data_dir,
            cache_bytes=options.cache_bytes,
            threads=threads_of(processes),
            nice=options.nice,
            micro_batch=options.micro_batch,
        ),
        processes=processes,
    )


def _absolute(dataset: str) -> str:
    kind, colon, folder = dataset.partition(":")
    return f"{kind}:{Path(folder).expanduser().absolute()}" if colon else dataset


def _name(arch: str, dataset: str) -> str:
    return f"simclr-{arch}-{Path(dataset.partition(':')[2]).name or dataset}.safetensors"
