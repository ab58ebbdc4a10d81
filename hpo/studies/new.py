"""A new study: what was asked for, checked down to the last image. The one part of the driver that needs torch."""

import dataclasses

import search_spaces
from hpo.errors import UsageError
from hpo.spec import NewStudy, RunOptions, SearchConfig, StudySpec, split_seeds
from hpo.studies.preflight import deduplicated, findings, identified, readable
from search_spaces import SearchSpace
from trainables.config import FREEZE_MODES, DataConfig, Exif, ModelConfig
from trainables.contrastive.config import usual
from trainables.contrastive.trial import encoder_of, with_stored_images
from trainables.data import datasets, folders, splits
from trainables.networks import backbones, freeze, identity
from trainables.trainable import FINETUNE, SIMCLR_PRETRAIN, digest, freezes


def new_study(
    data: DataConfig,
    model: ModelConfig,
    search: SearchConfig,
    options: RunOptions,
    *,
    seed: int,
    split_seed: int | None = None,
    trainable: str = FINETUNE,
    skip_bad_images: bool,
    geometry_of: str | None,
    exif: Exif | None,
    existing: StudySpec | None,
) -> NewStudy:
    """Check everything that was asked for, and look up what it means: backbone, weights, images, splits.

    Args:
        data: The dataset, as it was asked for.
        model: The backbone and its weights, as they were asked for.
        search: The search, with its space.
        options: How the study is to be run.
        seed: The study's.
        split_seed: That of its splits, where several studies share them; None: the study's.
        trainable: The name of what its trials run.
        skip_bad_images: Whether images that cannot be read are left out.
        geometry_of: The weights whose transform a weights file takes; None: see `identity.resolve`.
        exif: What is done with images' EXIF orientation; None: those of a folder are turned.
        existing: The specification of the study of that name; its images are then found, turned, split and prepared
            in the same way. None: there is no such study.

    Raises:
        UsageError, trainables.InputError: Something cannot be used; nothing was created.
    """
    trainable_sha256 = digest(trainable)
    if trainable == SIMCLR_PRETRAIN:
        model = encoder_of(model, data)
    model = identity.resolve(model, options.data_dir, geometry_of, existing.model if existing is not None else None)
    if trainable == SIMCLR_PRETRAIN:
        model = with_stored_images(model)
    space = search_spaces.from_dict(search.space, "the search space", trainable=trainable)
    modes = [mode for mode in FREEZE_MODES if mode in space.freeze_modes and freezes(trainable)]
    for mode in modes:
        freeze.check(model, mode)
    network = backbones.check(model, options.data_dir)
    for mode in modes:
        if space.smallest_batch(mode) == 1:
            freeze.check_batch_of_one(network, mode)
    data = _like(existing, data, exif, seed if split_seed is None else split_seed, skip_bad_images)
    found = folders.listed(data) if _is_folder(data.dataset) else None
    data = identified(data, options)
    if data.deduplicate:
        data = deduplicated(data, options)
    data = readable(
        data, identity.geometry_of(model), options, skip_bad=skip_bad_images, dangling=found.dangling if found else ()
    )
    images = datasets.training_images(data, options.data_dir)
    divided = splits.split(images, data)
    if trainable == SIMCLR_PRETRAIN:
        _check_batches(space, model, len(divided.train), data.dataset)
    data = dataclasses.replace(data, splits_sha256=divided.fingerprint)
    spec = StudySpec(
        data=data, model=model, search=search, seed=seed, trainable=trainable, trainable_sha256=trainable_sha256
    )
    return NewStudy(
        spec,
        splits.summary(images, divided),
        splits.listing(images, divided),
        findings(data, found, images, divided, options, weights=model.weights),
    )


def _check_batches(space: SearchSpace, model: ModelConfig, images: int, dataset: str) -> None:
    """See that the images of a dataset fill the largest batch of a pretraining.

    Raises:
        UsageError: They do not.
    """
    assert model.image_size is not None
    largest = space.largest("batch_size") if "batch_size" in space.parameters else usual(model.image_size)["batch_size"]
    if largest > images:
        raise UsageError(
            f"the search space has a batch_size of {largest}, and {dataset} {images} images to pretrain on; lower it in"
            " a --space of your own."
        )


def _like(existing: StudySpec | None, data: DataConfig, exif: Exif | None, seed: int, skip_bad: bool) -> DataConfig:
    """Return `data` with what was not asked for: as an existing study has it, else today's defaults."""
    if existing is None:
        exif = exif or ("turn" if _is_folder(data.dataset) else "ignore")
        return dataclasses.replace(
            data, dataset=_absolute(data.dataset), exif=exif, layouts="recognised", split_seeds=split_seeds(seed)
        )
    before = existing.data
    return dataclasses.replace(
        data,
        dataset=_absolute(data.dataset),
        exif=exif or before.exif,
        layouts=before.layouts,
        split_seeds=before.split_seeds,
        skipped_images=before.skipped_images if skip_bad else (),
    )


def _is_folder(dataset: str) -> bool:
    return dataset.startswith("imagefolder:")


def _absolute(dataset: str) -> str:
    """Return a dataset's name with an absolute folder, where it names one."""
    return f"imagefolder:{folders.folder_of(dataset).absolute()}" if _is_folder(dataset) else dataset
