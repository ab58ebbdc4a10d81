"""A new study: what was asked for, checked down to the last image. The one part of the driver that needs torch."""

import dataclasses
from pathlib import Path

import search_spaces
from hpo.spec import NewStudy, RunOptions, SearchConfig, StudySpec, split_seeds
from hpo.studies.preflight import identified, readable
from trainables.config import FREEZE_MODES, DataConfig, ModelConfig
from trainables.data import datasets, splits
from trainables.networks import backbones, freeze, identity


def new_study(
    data: DataConfig,
    model: ModelConfig,
    search: SearchConfig,
    options: RunOptions,
    *,
    seed: int,
    skip_bad_images: bool,
    geometry_of: str | None,
    existing: StudySpec | None,
) -> NewStudy:
    """Check everything that was asked for, and look up what it means: backbone, weights, images, splits.

    Args:
        data: The dataset, as it was asked for.
        model: The backbone and its weights, as they were asked for.
        search: The search, with its space.
        options: How the study is to be run.
        seed: The study's.
        skip_bad_images: Whether images that cannot be read are left out.
        geometry_of: The weights whose transform a weights file takes; None: see `identity.resolve`.
        existing: The specification of the study of that name; its splits are then made in the same way. None: there
            is no such study.

    Raises:
        UsageError, trainables.InputError: Something cannot be used; nothing was created.
    """
    model = identity.resolve(model, options.data_dir, geometry_of)
    space = search_spaces.from_dict(search.space, "the search space")
    modes = [mode for mode in FREEZE_MODES if mode in space.freeze_modes]
    for mode in modes:
        freeze.check(model, mode)
    network = backbones.check(model, options.data_dir)
    for mode in modes:
        if space.smallest_batch(mode) == 1:
            freeze.check_batch_of_one(network, mode)
    seeds = existing.data.split_seeds if existing is not None else split_seeds(seed)
    skipped = existing.data.skipped_images if existing is not None and skip_bad_images else ()
    data = dataclasses.replace(data, dataset=_absolute(data.dataset), split_seeds=seeds, skipped_images=skipped)
    data = readable(identified(data, options), identity.geometry_of(model), options, skip_bad=skip_bad_images)
    images = datasets.training_images(data, options.data_dir)
    divided = splits.split(images, data)
    data = dataclasses.replace(data, splits_sha256=divided.fingerprint)
    spec = StudySpec(data=data, model=model, search=search, seed=seed)
    return NewStudy(spec, splits.summary(images, divided), splits.listing(images, divided))


def _absolute(dataset: str) -> str:
    kind, colon, folder = dataset.partition(":")
    return f"{kind}:{Path(folder).expanduser().absolute()}" if kind == "imagefolder" and colon else dataset
