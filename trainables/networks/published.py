"""Where weights come from: published ones by name, or a file; each with its own transform."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from trainables.checkpoints.layouts import GEOMETRIES
from trainables.config import IMAGENET, PAPER_BACKBONES, Geometry, data_root
from trainables.errors import InputError
from trainables.networks.fetch import extract_member, fetch
from trainables.networks.small_stem import PREFIX, SMALL, is_small, small_name
from trainables.networks.weights import file_and_key, is_safetensors
from trainables.vision import models

IMAGENET_TERMS = "ImageNet's images may be used for non-commercial research and education alone."
"""What https://www.image-net.org/download.php says of the images; whether it binds weights is not settled."""

GEOMETRY_KEY = "geometry"
"""Key in a safetensors file's metadata: its weights' transform, the fields of `Geometry` as JSON."""


@dataclass(frozen=True)
class PublishedWeights:
    """Weights with a stable public address that torchvision does not carry."""

    name: str
    architecture: str
    url: str
    filename: str
    sha256_prefix: str | None
    """As far as the publisher gives it; None: not at all."""
    geometry: Geometry
    licence: str
    """What its publisher says of it."""
    member: str | None = None
    """The file inside, where `filename` is a zip."""


@dataclass(frozen=True)
class FoundWeights:
    """What a ``--weights`` value means, its file on this machine."""

    name: str
    """Such as ``IMAGENET1K_V2``, or the file's absolute path, with ``#KEY`` where one was named."""
    path: Path
    geometry: Geometry | None
    """Their own transform; None: the file does not carry it."""
    key: str | None = None
    """Which of the file's state dicts was named."""


PUBLISHED = {
    weights.name: weights
    for weights in (
        # OpenMMLab, SimCLR ResNet-50, ImageNet at 224 px, 800 epochs in batches of 4,096: 69.20 % top-1 by a linear
        # probe. Their file names end with the first digits of the file's SHA-256. The transform is that of its linear
        # probe (mmpretrain, configs/_base_/datasets/imagenet_bs32_pil_resize.py).
        PublishedWeights(
            name="simclr-imagenet",
            architecture="resnet50",
            url="https://download.openmmlab.com/mmselfsup/1.x/simclr/simclr_resnet50_16xb256-coslr-800e_in1k/"
            "simclr_resnet50_16xb256-coslr-800e_in1k_20220825-85fcc4de.pth",
            filename="simclr_resnet50_16xb256-coslr-800e_in1k_20220825-85fcc4de.pth",
            sha256_prefix="85fcc4de",
            geometry=IMAGENET,
            licence="Apache-2.0, the licence of OpenMMLab's mmselfsup, which published them. " + IMAGENET_TERMS,
        ),
        # The checkpoint of Jimenez & Hale (2023), by sthalles/SimCLR: STL-10 at 96 px, 50 epochs, pixels from 0 to 1
        # (data_aug/contrastive_learning_dataset.py: crops of 96 px, ToTensor, no normalisation).
        PublishedWeights(
            name="simclr-stl10",
            architecture="resnet50",
            url="https://drive.usercontent.google.com/download"
            "?id=1ByTKAUsdm_X7tLcii6oAEl5qFRqRMZSu&export=download&confirm=t",
            filename="resnet50_50-epochs_stl10.zip",
            sha256_prefix=None,
            geometry=Geometry(resize=96, crop=96, interpolation="bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
            licence="none was given with the file; the repository that links to it (sthalles/SimCLR) is under the MIT"
            " licence. STL-10's images are from ImageNet.",
            member="checkpoint_0040.pth.tar",
        ),
    )
}
SIMCLR_DEFAULT = "simclr-imagenet"
"""800 epochs on ImageNet at the size that fine-tuning uses; the paper's own encoder saw small STL-10 images for 50."""


def is_file_spec(spec: str) -> bool:
    """Return whether a ``--weights`` value means a file: it has a slash or a dot, which no published name has."""
    return "/" in spec or "." in spec


def known_architecture(backbone: str) -> str:
    """Return the name of the architecture of one of the paper's backbones, ``torchvision:NAME`` or ``small:NAME``.

    That is torchvision's, or `small_name` of it; empty for a user's own.
    """
    if backbone.startswith(PREFIX):
        return small_name(backbone.removeprefix(PREFIX))
    if backbone.startswith("torchvision:"):
        return backbone.partition(":")[2]
    return PAPER_BACKBONES.get(backbone, "")


def find_weights(architecture: str, backbone: str, spec: str, data_dir: str | None) -> FoundWeights:
    """Find the weights that `spec` names, fetched first where they are not here yet.

    Args:
        architecture: torchvision's name of the network; empty for a user's own.
        backbone: The backbone as the user named it.
        spec: ``default``, a published name, one of torchvision's weights' names, or a file's path with or without
            ``#KEY``.
        data_dir: Where published weights are kept.

    Raises:
        InputError: There are no such weights, or they cannot be fetched.
    """
    if is_file_spec(spec):
        path, key = file_and_key(spec)
        if not path.is_file():
            raise InputError(f"--weights {path}: there is no such file.")
        named = f"{path}#{key}" if key is not None else str(path)
        return FoundWeights(named, path, embedded_geometry(path), key)
    name = SIMCLR_DEFAULT if backbone == "simclr" and spec == "default" else spec
    if name in PUBLISHED:
        return _published(PUBLISHED[name], architecture, data_dir)
    names = _torchvisions(architecture)
    wanted = "DEFAULT" if name == "default" else name
    if wanted not in names:
        if Path(spec).is_file():
            raise InputError(f"--weights {spec}: {backbone} has no weights of that name; ./{spec} names the file here.")
        default = ["default"] if names else []
        raise InputError(
            f"--weights {spec}: no such file, and {backbone} has no weights of that name;"
            f" known are {', '.join([*default, 'none', *names, *_published_for(architecture)])}, or a file's path."
        )
    chosen = names[wanted]
    digest = re.search(r"-([0-9a-f]{8,})\.pth$", chosen.url)
    path = _fetched(chosen.url, data_dir, chosen.url.rpartition("/")[2], digest and digest[1])
    return FoundWeights(chosen.name, path, named_geometry(architecture, chosen.name))


def named_geometry(architecture: str, name: str) -> Geometry:
    """Return the transform of published weights, by their name (``--geometry-of``).

    Args:
        architecture: torchvision's name of the network, whose own weights' names are known; empty for a user's own.
        name: ``default``, one of torchvision's weights' names, one of `PUBLISHED`, or a layout's.

    Raises:
        InputError: There are no weights of that name.
    """
    if name in PUBLISHED:
        return PUBLISHED[name].geometry
    if name in GEOMETRIES:
        return GEOMETRIES[name]
    if is_small(architecture) and name == "default":
        return SMALL
    names = _torchvisions(architecture)
    wanted = "DEFAULT" if name == "default" else name
    if wanted not in names:
        raise InputError(
            f"--geometry-of {name}: no such weights; known are {', '.join([*names, *PUBLISHED, *GEOMETRIES])}."
        )
    preset = names[wanted].transforms()
    return Geometry(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def embedded_geometry(path: Path) -> Geometry | None:
    """Return the transform that a safetensors file carries in its metadata; None: it carries none.

    Raises:
        InputError: What it carries is none.
    """
    try:
        if not is_safetensors(path):
            return None
        with safe_open(path, "pt") as file:
            stored = (file.metadata() or {}).get(GEOMETRY_KEY)
        return None if stored is None else _sound(TypeAdapter(Geometry).validate_python(json.loads(stored)))
    except SafetensorError:
        return None  # Reading its tensors says what is wrong with it.
    except OSError as error:
        raise InputError(f"--weights {path}: the file cannot be read ({error.strerror}).") from error
    except (ValueError, ValidationError) as error:
        raise InputError(f"--weights {path}: its metadata's {GEOMETRY_KEY!r} is no transform ({error}).") from error


def _sound(geometry: Geometry) -> Geometry:
    """Return a transform of a stranger's that can be done.

    Raises:
        ValueError: It cannot be.
    """
    if geometry.interpolation not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolation is {geometry.interpolation!r}, not bilinear or bicubic")
    if not 1 <= geometry.crop <= geometry.resize:
        raise ValueError(f"a crop of {geometry.crop} px is not within {geometry.resize}")
    if not all(map(math.isfinite, geometry.mean)) or not all(0 < value < math.inf for value in geometry.std):
        raise ValueError("a mean is no number, or a std not above 0")
    return geometry


def scaled(geometry: Geometry, image_size: int | None) -> Geometry:
    """Return the transform for networks whose input is `image_size` pixels wide; None: as it is."""
    if image_size is None:
        return geometry
    return Geometry(
        resize=round(image_size * geometry.resize / geometry.crop),
        crop=image_size,
        interpolation=geometry.interpolation,
        mean=geometry.mean,
        std=geometry.std,
    )


def _torchvisions(architecture: str) -> Mapping[str, Any]:
    """Return torchvision's weights of an architecture by their names; there are none for another's."""
    if not architecture or is_small(architecture):
        return {}
    return dict(models.get_model_weights(architecture).__members__)


def _published(weights: PublishedWeights, architecture: str, data_dir: str | None) -> FoundWeights:
    if weights.architecture != architecture:
        raise InputError(
            f"--weights {weights.name} are of a {weights.architecture}, this backbone is a {architecture or 'user'}'s."
        )
    path = _fetched(weights.url, data_dir, weights.filename, weights.sha256_prefix)
    if weights.member is not None:
        path = extract_member(path, weights.member, path.with_name(f"{weights.name}.pth"))
    return FoundWeights(weights.name, path, weights.geometry)


def _fetched(url: str, data_dir: str | None, filename: str, digest: str | None) -> Path:
    path = data_root(data_dir) / "weights" / filename
    try:
        return fetch(url, path, digest)
    except InputError as error:
        raise InputError(f"{error}. Bring the file yourself: to {path}, or anywhere with --weights PATH.") from error


def _published_for(architecture: str) -> list[str]:
    return [weights.name for weights in PUBLISHED.values() if weights.architecture == architecture]
