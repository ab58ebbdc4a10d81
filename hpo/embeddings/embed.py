"""From a backbone or a final model, and images, to their embeddings."""

import dataclasses
import hashlib
import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.embeddings.images import Part, without
from hpo.embeddings.result import Embeddings
from hpo.errors import HpoError
from hpo.models.folder import FinalModel
from trainables.config import MachineConfig, ModelConfig
from trainables.errors import InputError

if TYPE_CHECKING:
    from trainables.embeddings.features import Features
    from trainables.networks.backbones import Network

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedder:
    """A network with its values."""

    network: "Network"
    config: ModelConfig
    about: Mapping[str, Any]


def backbone_embedder(config: ModelConfig, geometry_of: str | None, data_dir: str | None, seed: int) -> Embedder:
    """Build a backbone with its weights, which are downloaded where they are published ones.

    Raises:
        InputError: The backbone, its weights or its image size cannot be used.
    """
    from trainables.embeddings.features import backbone_network
    from trainables.networks.backbones import check
    from trainables.networks.identity import resolve

    resolved = resolve(config, data_dir, geometry_of)
    check(resolved, data_dir)
    about = {
        "backbone": resolved.backbone,
        "weights": resolved.weights_name,
        "weights_sha256": resolved.weights_sha256,
        "model": None,
        **({"seed": seed} if resolved.weights == "none" else {}),
    }
    return Embedder(backbone_network(resolved, data_dir, seed), resolved, about)


def final_embedder(model: FinalModel) -> Embedder:
    """Build the network of a final model.

    Raises:
        InputError: Its files are damaged or of another network.
    """
    from trainables.networks.final import load_final

    config = dataclasses.replace(model.spec.model, geometry=model.preprocessing.geometry)
    about = {
        "backbone": config.backbone,
        "weights": "a final model",
        "weights_sha256": hashlib.sha256(model.weights.read_bytes()).hexdigest(),
        "model": str(model.weights.absolute()),
    }
    return Embedder(load_final(model.weights, config, len(model.preprocessing.classes)), config, about)


def embed_parts(embedder: Embedder, parts: tuple[Part, ...], machine: MachineConfig, *, skip_bad: bool) -> Embeddings:
    """Compute the embeddings of images, or find them in the store of features.

    Args:
        embedder: The network.
        parts: The images, of one dataset.
        machine: What this machine gives.
        skip_bad: Leave images out that cannot be read, and name them.

    Raises:
        InputError: Images cannot be read, or their features do not fit the store.
        HpoError: The network gives what is no number.
    """
    done = [_embed(embedder, part, machine, skip_bad) for part in parts]
    kept, features = [part for part, _ in done], [found for _, found in done]
    array = features[0].values if len(features) == 1 else np.concatenate([one.values for one in features])
    for start in range(0, len(array), 4096):
        if not np.isfinite(array[start : start + 4096]).all():
            raise HpoError(
                f"{embedder.config.backbone} gives features that are no numbers for these images; try --precision fp32,"
                " or other weights."
            )
    array.flags.writeable = False
    first = kept[0].images
    about = {
        "hpo": importlib.metadata.version("hpo"),
        **embedder.about,
        "geometry": dataclasses.asdict(embedder.config.geometry) if embedder.config.geometry else None,
        "exif": first.exif,
        "precision": embedder.config.precision,
        "images_of": first.dataset,
        "splits": {part.split: len(part.images.ids) for part in kept if part.split},
        "images": len(array),
        "features": array.shape[1],
        "classes": list(first.classes),
    }
    return Embeddings(
        array=array,
        ids=tuple(name for part in kept for name in part.images.ids),
        labels=np.concatenate([part.images.labels for part in kept]),
        classes=first.classes,
        splits=tuple(part.split for part in kept for _ in part.images.ids),
        paths=tuple(path for part in kept for path in _paths(part)),
        about=about,
        pixels=tuple(one.pixels for one in features),
    )


def _embed(embedder: Embedder, part: Part, machine: MachineConfig, skip_bad: bool) -> tuple[Part, "Features"]:
    from trainables.data.image_store import BadImagesError, shown
    from trainables.embeddings.features import features_of

    try:
        return part, features_of(embedder.network, embedder.config, part.images, machine)
    except BadImagesError as error:
        if not skip_bad:
            raise InputError(
                f"{part.images.dataset}: {shown(error.reasons)}; fix or remove them, or say --skip-bad-images to leave"
                " them out."
            ) from error
        for reason in error.reasons.values():
            logger.warning("%s It is left out.", reason.removesuffix("; fix or remove it.") + ".")
        rest = without(part, set(error.reasons))
        return rest, features_of(embedder.network, embedder.config, rest.images, machine)


def _paths(part: Part) -> tuple[Path | None, ...]:
    return part.images.paths or (None,) * len(part.images.ids)
