"""Look at every image of a dataset before a study or pretraining begins, so that none finds what cannot be read."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpo.errors import UsageError
from hpo.spec import RunOptions
from hpo.studies.seen import seen
from trainables.config import DataConfig, Geometry, MachineConfig
from trainables.data.datasets import LabelledImages, training_images
from trainables.data.duplicates import copies
from trainables.data.folders import ImageFolder
from trainables.data.held_out import held_out_images
from trainables.data.image_store import BadImagesError, open_store, shown
from trainables.data.splits import Splits

logger = logging.getLogger(__name__)


def identified(data: DataConfig, options: RunOptions) -> DataConfig:
    """Return `data` with the digests of what lies in its splits.

    Raises:
        InputError: The dataset cannot be used.
    """
    training, test = _read(data, options)
    return dataclasses.replace(data, train_sha256=training.content_sha256, test_sha256=test.content_sha256)


def readable(
    data: DataConfig,
    geometry: Geometry,
    options: RunOptions | MachineConfig,
    *,
    skip_bad: bool,
    dangling: Sequence[Path] = (),
    with_test: bool = True,
) -> DataConfig:
    """Return `data` without the images that cannot be read, where there are any and `skip_bad` allows it.

    What is decoded here is what the trials and the retrain will use: nothing is decoded twice.

    Args:
        data: The dataset.
        geometry: The transform of the weights.
        options: Where decoded images lie.
        skip_bad: Whether images that cannot be read are left out.
        dangling: Links without a target, which are no images of any split, and as bad as images that cannot be read.
        with_test: Whether the test split is looked at; a pretraining never opens it.

    Raises:
        UsageError: Images of either split cannot be read, and `skip_bad` is off; the message names them.
        InputError: The dataset cannot be used, or is not what its study recorded.
    """
    bad: dict[str, dict[str, str]] = {}
    read = _read(data, options) if with_test else (training_images(data, options.data_dir),)
    for split, images in zip(("train", "test"), read, strict=False):
        try:
            open_store(images, geometry, options.data_dir, options.cache_bytes)
        except BadImagesError as error:
            bad[split] = error.reasons
    links = {str(path): f"{path} is a link to {path.readlink()}, which is not there" for path in dangling}
    if not skip_bad and (bad or links):
        named = "; ".join(shown(reasons) for reasons in (*bad.values(), links) if reasons)
        raise UsageError(f"--dataset {data.dataset}: {named}. --skip-bad-images leaves such images out.")
    for reason in links.values():
        logger.warning("left out: %s", reason)
    if not bad:
        return data
    for split, reasons in bad.items():
        for reason in reasons.values():
            logger.warning("left out of the %s split: %s", split, reason)
    data = _without(data, [f"{split}/{name}" for split, reasons in bad.items() for name in reasons])
    return readable(data, geometry, options, skip_bad=False, with_test=with_test)


def _without(data: DataConfig, names: Sequence[str]) -> DataConfig:
    """Return `data` without the images of these names, which are SPLIT/NAME."""
    return dataclasses.replace(data, skipped_images=tuple(sorted({*data.skipped_images, *names})))


def deduplicated(data: DataConfig, options: RunOptions | MachineConfig) -> DataConfig:
    """Return `data` without the copies among its training images: an image is kept in test, else in validation.

    The test split stays whole. Where validation is drawn from the training images, one of several copies stays there.

    Raises:
        UsageError: The dataset has no files that could be compared.
        InputError: The dataset cannot be used.
    """
    training, test = _read(data, options)
    if training.paths is None:
        raise UsageError(f"--deduplicate compares files, and --dataset {data.dataset} has none for each image.")
    if training.validation is None:
        names = [training.ids[i] for i in copies([test, training], within=True)[1]]
    else:
        validation, own = _parts(training, training.validation)
        names = [
            part.ids[i]
            for part, known in zip((validation, own), copies([test, validation, own])[1:], strict=True)
            for i in known
        ]
    if names:
        logger.info("left out of training: %d copies of other images, such as %s", len(names), names[0])
    return _without(data, [f"train/{name}" for name in names])


def findings(
    data: DataConfig,
    found: ImageFolder | None,
    images: LabelledImages,
    divided: Splits,
    options: RunOptions,
    *,
    weights: str = "none",
) -> tuple[str, ...]:
    """Return, a line each, what was found: classes, images by split, what was left out, and copies across splits.

    Another line says so where the encoder of a weights file has seen images that judge.

    Args:
        data: The dataset.
        found: Its folder; None: it is none of images.
        images: Its training split.
        divided: How that is divided.
        options: Where the dataset lies.
        weights: The study's weights.
    """
    test = held_out_images(data, options.data_dir, images)
    origins = (
        {name: f"folder {part.path.name}" for name, part in found.splits.items()} if found else {"test": "its own"}
    )
    lines = [
        f"{data.dataset}: {len(images.classes)} classes; {len(divided.train)} images to train on,"
        f" {len(divided.validation)} to validate with ({origins.get('validation', 'drawn from training')}),"
        f" {len(test.ids)} to test with ({origins.get('test', 'drawn from training')})"
    ]
    skipped = "unreadable images or copies" if data.deduplicate else "unreadable images"
    left_out = {**(found.left_out if found else {}), skipped: len(data.skipped_images)}
    if any(left_out.values()):
        lines.append(f"left out: {', '.join(f'{count} {what}' for what, count in left_out.items() if count)}")
    validation, train = images.subset(divided.validation), images.subset(divided.train)
    was_seen = seen(weights, data, validation, test, options.data_dir)
    if was_seen is not None:
        lines.append(was_seen)
    if images.paths is None or data.deduplicate:
        return tuple(lines)
    _, also_tested, elsewhere = copies([test, validation, train])
    if also_tested or elsewhere:
        example = train.ids[elsewhere[0]] if elsewhere else validation.ids[also_tested[0]]
        lines.append(
            f"byte for byte in another split too: {len(elsewhere)} training images (in validation or test) and"
            f" {len(also_tested)} validation images (in test), such as {example}; accuracies are too high by that;"
            " --deduplicate leaves them out of training"
        )
    return tuple(lines)


def _read(data: DataConfig, options: RunOptions | MachineConfig) -> tuple[LabelledImages, LabelledImages]:
    """Return the training and the test split."""
    training = training_images(data, options.data_dir)
    return training, held_out_images(data, options.data_dir, training)


def _parts(images: LabelledImages, validation: np.ndarray) -> tuple[LabelledImages, LabelledImages]:
    """Return the validation images and the others."""
    others = np.setdiff1d(np.arange(len(images.ids)), validation)
    return images.subset(validation), images.subset(others)
