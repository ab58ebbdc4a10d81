"""A new study: what was asked for, checked down to the last image. The one part of the driver that needs torch."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

import search_spaces
from hpo.errors import UsageError
from hpo.spec import GRACE_PERIOD, REDUCTION_FACTOR, NewStudy, RunOptions, Sampler, StudySpec
from hpo.studies.preflight import readable
from trainables.config import FREEZE_MODES, Augment, DataConfig, FreezeMode, HeadKind, ModelConfig, Precision
from trainables.data import datasets, splits
from trainables.networks import backbones, fetch
from trainables.networks.weights import is_file_spec


class Asked(BaseModel):
    """What ``hpo run`` was asked for, before it is checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    dataset: str
    weights: str
    space: Path | None
    head: HeadKind
    augment: Augment
    image_size: int | None
    val_fraction: float
    label_fraction: float
    skip_bad_images: bool
    sampler: Sampler
    asha: bool
    grace_period: int | None
    reduction_factor: float | None
    precision: Precision
    seed: int


def checked(asked: Asked, options: RunOptions) -> NewStudy:
    """Check everything that was asked for: backbone, weights, search space, images, splits.

    Raises:
        UsageError, trainables.InputError, search_spaces.SpaceError: Something cannot be used; nothing was created.
    """
    backbones.architecture_of(asked.backbone)
    space = search_spaces.builtin(asked.backbone, asked.weights)
    if asked.space is not None:
        space = search_spaces.load(asked.space, space)
    weights, digest = _identified(asked.weights)
    for mode in _freeze_modes(space):
        model = ModelConfig(
            backbone=asked.backbone,
            weights=weights,
            head=asked.head,
            freeze_mode=mode,
            image_size=asked.image_size,
        )
        backbones.check(model, options.data_dir)
    data = DataConfig(
        dataset=_absolute(asked.dataset),
        data_dir=options.data_dir,
        cache_bytes=options.cache_bytes,
        val_fraction=asked.val_fraction,
        label_fraction=asked.label_fraction,
        split_seed=asked.seed,
    )
    data = readable(data, backbones.geometry(asked.backbone, asked.image_size), skip_bad=asked.skip_bad_images)
    images = datasets.training_images(data)
    divided = splits.split(images, data)
    grace = asked.grace_period if asked.grace_period is not None else min(GRACE_PERIOD, space.max_epochs)
    if asked.asha and grace > space.max_epochs:
        raise UsageError(
            f"--grace-period {grace}: the search space's longest trial has {space.max_epochs} epochs; lower one or"
            " raise the other, or say --no-asha."
        )
    spec = StudySpec(
        backbone=asked.backbone,
        weights=weights,
        weights_sha256=digest,
        head=asked.head,
        dataset=data.dataset,
        image_size=asked.image_size,
        augment=asked.augment,
        val_fraction=asked.val_fraction,
        label_fraction=asked.label_fraction,
        skipped_images=data.skipped,
        splits_sha256=divided.fingerprint,
        sampler=asked.sampler,
        asha=asked.asha,
        grace_period=grace,
        reduction_factor=asked.reduction_factor or REDUCTION_FACTOR,
        precision=asked.precision,
        seed=asked.seed,
        space=search_spaces.to_dict(space),
    )
    return NewStudy(spec, splits.summary(images, divided), splits.listing(images, divided))


def _freeze_modes(space: search_spaces.SearchSpace) -> list[FreezeMode]:
    """One mode is enough to check the weights; without weights, each must be one that trains everything."""
    return [mode for mode in reversed(FREEZE_MODES) if mode in space.freeze_modes][:1]


def _identified(weights: str) -> tuple[str, str | None]:
    """Return the weights' name, or the file's absolute path and its SHA-256."""
    if not is_file_spec(weights):
        return weights, None
    path = Path(weights).expanduser().absolute()
    return str(path), fetch.sha256(path) if path.is_file() else None


def _absolute(dataset: str) -> str:
    kind, colon, folder = dataset.partition(":")
    return f"{kind}:{Path(folder).expanduser().absolute()}" if kind == "imagefolder" and colon else dataset
