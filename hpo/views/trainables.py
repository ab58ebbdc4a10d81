"""What a study's trainable is called for people, its parameters in words, and what its best configuration is for."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from hpo.ledger.ledger import Ledger
from hpo.ledger.records import TrialRecord
from hpo.spec import StudySpec
from trainables.config import DataConfig
from trainables.trainable import SIMCLR_PRETRAIN

_LAST = ("learning_rate", "batch_size", "epochs", "freeze_mode")
"""The order in which people read the parameters of fine-tuning; any other stands before them."""


def in_order(names: Iterable[str]) -> list[str]:
    """Return parameters in the order in which they are shown."""
    given = list(names)
    return [*(name for name in given if name not in _LAST), *(name for name in _LAST if name in given)]


def shown(value: object) -> str:
    """Return a parameter's value for people."""
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def in_words(params: Mapping[str, Any], short: Mapping[str, str] | None = None) -> str:
    """Return a configuration: ``learning rate 0.001, batch size 32, 9 epochs, freeze mode none``.

    `short` has shorter names of some parameters.
    """
    names = short or {}
    return ", ".join(
        f"{shown(params[name])} epochs" if name == "epochs" else f"{names.get(name, label(name))} {shown(params[name])}"
        for name in in_order(params)
    )


def label(name: str) -> str:
    """Return a parameter's name for people."""
    return name.replace("_", " ")


def use(ledger: Ledger, best: TrialRecord | None) -> str:
    """Return what can be done with a study whose trainable has no final model, as the end of a sentence."""
    if best is None:
        return "no trial has ended with an epoch yet."
    if ledger.spec.trainable == SIMCLR_PRETRAIN:
        command = pretrain_command(ledger.spec, best.params, ledger.run_options.data_dir)
        return f"this pretrains an encoder with its best configuration: {command}"
    return f"`hpo export {ledger.name}` gives its best configuration."


def pretrain_command(spec: StudySpec, params: Mapping[str, Any], data_dir: str | None) -> str:
    """Return the ``hpo pretrain`` of a configuration of a study of it: the same splits, another random start.

    `data_dir` is the folder that the study was run with.
    """
    stem, _, arch = spec.model.backbone.partition(":")
    options: dict[str, object] = {
        "arch": arch,
        "dataset": spec.data.dataset,
        "image_size": spec.model.image_size,
        "stem": "small" if stem == "small" else "imagenet",
        **params,
        "seed": spec.seed,
    }
    usual = DataConfig(dataset=spec.data.dataset)
    if spec.data.val_fraction != usual.val_fraction:
        options["val_fraction"] = spec.data.val_fraction
    if spec.data.dataset.startswith("imagefolder:"):
        options["exif"] = spec.data.exif
    if spec.model.precision != "auto":
        options["precision"] = spec.model.precision
    if data_dir is not None:
        options["data_dir"] = data_dir
    words = ["hpo", "pretrain"]
    for name, value in options.items():
        option = name.replace("_", "-")
        # The one that is there to be taken away.
        if isinstance(value, bool):
            words += [] if value else [f"--no-{option}"]
        else:
            words += [f"--{option}", str(value)]
    if spec.data.deduplicate:
        words.append("--deduplicate")
    if spec.data.skipped_images:
        # Copies may be all of them; that an image can be skipped does no harm then.
        words.append("--skip-bad-images")
    return shlex.join(words)
