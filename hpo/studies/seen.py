"""Whether the encoder in a weights file was pretrained on images that a study validates or tests with."""

import dataclasses
import json
import shlex
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from trainables.config import DataConfig
from trainables.contrastive.pretraining import PRETRAINING_KEY
from trainables.data.datasets import ChangedImagesError, LabelledImages, training_images
from trainables.data.splits import split
from trainables.networks.published import is_file_spec
from trainables.networks.weights import file_and_key, is_safetensors


def seen(
    weights: str, data: DataConfig, validation: LabelledImages, test: LabelledImages, data_dir: str | None
) -> str | None:
    """Return, as a line, how many of the images that judge a file's encoder was pretrained on.

    The file's metadata says how `hpo pretrain` divided its images; they are divided so again.

    Args:
        weights: The study's.
        data: Its dataset.
        validation: Its validation images.
        test: Its test images.
        data_dir: Where datasets lie.

    Returns:
        None: It was on none of them, on images of another dataset, or the file does not say.
    """
    pretraining = _pretraining_of(weights)
    before = _data_of(pretraining)
    if before is None or before.dataset.partition(":")[0] != data.dataset.partition(":")[0]:
        return None
    is_same_place = before.dataset == data.dataset
    if before.train_sha256 is None and not is_same_place:
        return None
    # Of a folder that was moved since, its digest says whether it is the same.
    here = dataclasses.replace(before, dataset=data.dataset, layouts=data.layouts)
    try:
        images = training_images(here, data_dir)
    except ChangedImagesError:
        if not is_same_place:
            return None
        return (
            f"--weights {weights}: the images of {data.dataset} have changed since its encoder was pretrained on them,"
            " so it may have seen images that this study validates or tests with; accuracies may be too high"
        )
    trained = set(_names(images.subset(split(images, here).train)))
    validated = sum(name in trained for name in _names(validation))
    # Images without files are numbered anew in each split, and have a test split of their own.
    tested = sum(name in trained for name in test.paths or ())
    if not validated and not tested:
        return None
    return (
        f"--weights {weights}: its encoder was pretrained on {validated} of the {len(validation.ids)} images to"
        f" validate with and {tested} of the {len(test.ids)} to test with; accuracies are too high by that."
        f" It was pretrained with {_options(before, pretraining.get('seed'))}, which divides them alike in a study"
    )


def _pretraining_of(weights: str) -> dict[str, Any]:
    """Return the configuration in a weights file's metadata; empty: there is none."""
    if not is_file_spec(weights):
        return {}
    path, _ = file_and_key(weights)
    try:
        if not is_safetensors(path):
            return {}
        with safe_open(path, "pt") as file:
            said = json.loads((file.metadata() or {}).get(PRETRAINING_KEY, "{}"))
    except (SafetensorError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _data_of(pretraining: dict[str, Any]) -> DataConfig | None:
    try:
        return TypeAdapter(DataConfig).validate_python(pretraining.get("data"))
    except ValidationError:
        return None


def _names(images: LabelledImages) -> tuple[object, ...]:
    return images.paths or images.ids


def _options(data: DataConfig, seed: object) -> str:
    words = ["--seed", str(seed), "--val-fraction", f"{data.val_fraction:g}"]
    return shlex.join([*words, *(["--deduplicate"] if data.deduplicate else [])])
