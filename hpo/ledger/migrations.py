"""Specifications as earlier versions of hpo stored them, read as today's."""

from collections.abc import Mapping
from typing import Any

from hpo.errors import HpoError
from hpo.spec import SCHEMA_VERSION, StudySpec


def read_spec(stored: Mapping[str, Any], study: str) -> StudySpec:
    """Return the specification that a study's ledger holds, whatever version of hpo wrote it.

    Nothing is written: an earlier version's ledger stays as it is, but for what a run adds to it.

    Raises:
        HpoError: A later version wrote it.
    """
    version = stored.get("schema_version", 1)
    if version > SCHEMA_VERSION:
        raise HpoError(f"study {study} was made by a later version of hpo (its schema is {version}); update hpo.")
    return StudySpec.model_validate(_from_first(stored) if version == 1 else stored)


def _from_first(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 1, of hpo 0.1.0: one flat table.

    The seed itself seeded the splits, the default weights decided the transform, and a name that was left out was left
    out of every split.
    """
    seed = stored["seed"]
    skipped = [f"{split}/{name}" for split in ("train", "test") for name in stored.get("skipped_images", ())]
    return {
        "data": {
            **_some(stored, "dataset", "val_fraction", "label_fraction", "augment", "splits_sha256"),
            "skipped_images": skipped,
            "split_seeds": {"validation": seed, "labels": (seed, 1), "test": seed},
        },
        "model": _some(stored, "backbone", "weights", "weights_sha256", "head", "image_size", "precision"),
        "search": _some(stored, "space", "sampler", "asha", "grace_period", "reduction_factor"),
        "seed": seed,
        "offset_seeds": True,
    }


def _some(stored: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: stored[name] for name in names}
