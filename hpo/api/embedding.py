"""`hpo.embed`: embeddings of images by any backbone or final model."""

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.api.options import Location
from hpo.choices import EmbedSplit
from hpo.errors import UsageError
from trainables.config import DEFAULT_CACHE_BYTES, DataConfig, Exif, MachineConfig, ModelConfig, Precision

if TYPE_CHECKING:
    from hpo.embeddings.embed import Embedder
    from hpo.embeddings.images import Part
    from hpo.embeddings.result import Embeddings
    from hpo.models.folder import FinalModel


@dataclass(frozen=True)
class Encoder:
    """A backbone with its weights, as `hpo.run` takes them, without a head."""

    backbone: str
    """Such as ``simclr`` or ``small:resnet18``."""
    weights: str = "default"
    """``default``, ``none``, a published name, a file, or ``FILE#KEY``."""
    geometry_of: str | None = None
    """Of a weights file: the published weights or layout whose resize, crop and normalisation it takes."""
    image_size: int | None = None
    """Side of the network's input, in pixels; None: what its weights give."""
    precision: Precision = "auto"
    """As in a study; so the features that its trials have left in the store are found."""


def embed(
    model: str | Path | Encoder,
    *,
    dataset: str | None = None,
    images: Path | str | None = None,
    split: EmbedSplit | None = None,
    exif: Exif | None = None,
    skip_bad_images: bool = False,
    seed: int = 0,
    data_dir: str | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    location: Location = Location(),
) -> "Embeddings":
    """Return what a network has in front of its head for each image, in eval mode, on a GPU where there is one.

    Args:
        model: A study, by its name, or a final model, by its folder or file; or a backbone.
        dataset: ``pets``, ``fashion-mnist``, ``cifar10``, ``digits`` or ``imagefolder:DIR``; None: a study's own.
        images: In place of a dataset, a folder: all images in it and below, without labels.
        split: ``train`` (default; with the validation images), ``test`` or ``all``. What is chosen by a look at test
            images is chosen by the test.
        exif: Whether images are turned as their EXIF orientation says; None: as the model's were, of a backbone those
            in folders.
        skip_bad_images: Leave images out that cannot be read.
        seed: Of a backbone: of its random values. Also of the test share of a folder that has no test split, as in a
            study of that seed; of a study's own dataset, the study's seed decides that.
        data_dir: Where datasets, weights, images and features lie; None: where a study had them, else this machine's.
        cache_bytes: What images and features may take there.
        location: Where studies are.

    Raises:
        InputError: The model, its weights or the images cannot be used.
        UsageError: There is no such study, or options do not go together.
        HpoError: The study has no final model, or the features are no numbers.
    """
    from joblib import cpu_count

    from hpo.embeddings.embed import backbone_embedder, embed_parts, final_embedder

    if images is not None and (dataset is not None or split is not None):
        raise UsageError("--images is a folder without labels and splits; give it alone, or --dataset and --split.")
    embedder: Embedder
    if isinstance(model, Encoder):
        if dataset is None and images is None:
            raise UsageError("which images? Give --dataset, or --images with a folder.")
        parts = _parts(_data(dataset, exif, seed), images, split, data_dir)
        config = {name: value for name, value in vars(model).items() if name != "geometry_of"}
        embedder = backbone_embedder(ModelConfig(**config), model.geometry_of, data_dir, seed)
    else:
        found = _found(str(model), location)
        data_dir = data_dir or _data_dir_of(str(model), location)
        own = found.spec.data
        if dataset is None or _place(dataset) == _place(own.dataset):
            data = dataclasses.replace(own, exif=exif or own.exif)
        else:
            data = _data(dataset, exif or found.preprocessing.exif, seed)
        parts = _parts(data, images, split, data_dir)
        embedder = final_embedder(found)
    machine = MachineConfig(data_dir=data_dir, cache_bytes=cache_bytes, threads=cpu_count())
    return embed_parts(embedder, parts, machine, skip_bad=skip_bad_images)


def _found(model: str, location: Location) -> "FinalModel":
    from hpo.models.folder import is_model, model_of_study, read_model

    return read_model(Path(model)) if is_model(model) else model_of_study(location.paths(model), location.url)


def _data_dir_of(model: str, location: Location) -> str | None:
    """Return the data folder of a study's last run; None: the usual one, or a model's folder without its ledger."""
    from hpo.models.folder import is_model

    if is_model(model):
        return None
    from hpo.api.study import open_study

    with suppress(UsageError):
        return open_study(model, location).ledger.run_options.data_dir
    return None


def _place(dataset: str) -> str | Path:
    """Return what is the same however a dataset is named."""
    folder = dataset.partition(":")[2]
    return Path(folder).expanduser().resolve() if folder else dataset


def _data(dataset: str | None, exif: Exif | None, seed: int) -> DataConfig:
    from hpo.spec import split_seeds

    kind, colon, folder = (dataset or "imagefolder:").partition(":")
    return DataConfig(
        dataset=f"{kind}:{Path(folder).expanduser().absolute()}" if colon and folder else f"{kind}{colon}",
        exif=exif or ("turn" if colon else "ignore"),
        layouts="recognised",
        split_seeds=split_seeds(seed),
    )


def _parts(
    data: DataConfig, images: Path | str | None, split: EmbedSplit | None, data_dir: str | None
) -> "tuple[Part, ...]":
    from hpo.embeddings.images import of_dataset, of_folder

    return of_dataset(data, split or "train", data_dir) if images is None else of_folder(Path(images), data.exif)
