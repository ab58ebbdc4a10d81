"""`hpo embed`: embeddings of images as files, and a page with their map."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo.api.embedding import Encoder
from hpo.api.embedding import embed as embed_images
from hpo.api.options import DataDir, Help, Location
from hpo.choices import EmbeddingFormat, EmbedSplit
from hpo.cli import completion
from hpo.cli.groups import AsJson, grouped
from hpo.cli.output import print_json
from hpo.errors import UsageError
from hpo.paths import dataset_name
from trainables.config import DEFAULT_CACHE_BYTES, Exif, Precision


@grouped
def embed(
    *,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY|MODEL]",
            help="A study, a final folder (with a slash in its path), or its file; or give --backbone.",
            autocompletion=completion.studies,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="A backbone in place of a final model, as of `hpo run`.", autocompletion=completion.backbones
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Of the backbone: default, none, a published name, a file, or FILE#KEY.", show_default="default"
        ),
    ] = None,
    geometry_of: Annotated[
        str | None,
        Help("For a weights file: the published weights or layout whose resize, crop and normalisation it takes."),
    ] = None,
    image_size: Annotated[int | None, Help("Side of the backbone's input, in pixels.", least=1)] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="What the backbone computes in.", show_default="auto")
    ] = None,
    dataset: Annotated[
        str | None,
        Help("pets, fashion-mnist, cifar10, digits, or imagefolder:DIR; default: the study's own."),
    ] = None,
    images: Annotated[Path | None, Help("A folder instead: all images in it and below, without labels.")] = None,
    split: Annotated[
        EmbedSplit | None,
        typer.Option(help="train: with the validation images; test: held out.", show_default="train"),
    ] = None,
    exif: Annotated[Exif | None, Help("Turn images as their EXIF orientation says; default: as the study did.")] = None,
    skip_bad_images: Annotated[bool, Help("Leave images out that cannot be read.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the splits, random weights and the map.")] = 0,
    data_dir: DataDir = None,
    cache_bytes: Annotated[int, Help("Gigabytes (2^30) for decoded images and features.")] = DEFAULT_CACHE_BYTES,
    form: Annotated[
        EmbeddingFormat, typer.Option("--format", help="npy: an array and a CSV file; parquet: one table.")
    ] = "npy",
    output: Annotated[
        Path | None,
        typer.Option(
            help="A new folder.",
            show_default="embeddings-STUDY or -BACKBONE, then -DATASET or -FOLDER if given, then -test or -all",
        ),
    ] = None,
    location: Location,
    as_json: AsJson = False,
) -> None:
    """Write the embeddings of images by a backbone or a study's final model, and a page that maps them.

    The page shows each image's nearest neighbours, likely duplicates and outliers. Features that trials have left in
    the store are not computed again.
    """
    from hpo.embeddings.files import check_new, save_embeddings
    from hpo.live.screen import Screen

    own = {"weights": weights, "geometry_of": geometry_of, "image_size": image_size, "precision": precision}
    given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    if (model is None) == (backbone is None):
        raise UsageError("give either a study or model, or --backbone.")
    if model is not None and given:
        raise UsageError(f"--{next(iter(given)).replace('_', '-')} is of a --backbone; {model} has its own.")
    folder = check_new(output or Path(_name(model or backbone or "", dataset, images, split)))
    with Screen() as screen:
        screen.doing("opening the images and the network")
        made = embed_images(
            Encoder(backbone, **given) if backbone is not None else model or "",
            dataset=dataset,
            images=images,
            split=split,
            exif=exif,
            skip_bad_images=skip_bad_images,
            seed=seed,
            data_dir=data_dir,
            cache_bytes=cache_bytes,
            location=location,
        )
        screen.doing(f"comparing and mapping {len(made):,} images")
        saved = save_embeddings(made, folder, form=form, seed=seed)
    if as_json:
        paths = {"embeddings": str(saved.embeddings), "map": str(saved.page)}
        print_json({**made.about, **paths, "duplicates": saved.duplicates})
        return
    pairs = f"{saved.duplicates} pair{'' if saved.duplicates == 1 else 's'}"
    sys.stdout.write(
        f"{len(made):,} images, {made.array.shape[1]:,} features each; {pairs} of likely duplicates\n"
        f"embeddings: {os.path.relpath(saved.embeddings)}\n"
        f"map: {os.path.relpath(saved.page)}\n"
    )


def _name(network: str, dataset: str | None, images: Path | None, split: EmbedSplit | None) -> str:
    """Return the usual name of the folder: network, then images and split where they are not the usual ones."""
    # Of a path its last part that says something: of studies/pets/final the study.
    said = [part for part in network.split("/") if part not in ("", ".", "..", "final", "model.safetensors")]
    shown = dataset or (f"imagefolder:{images}" if images is not None else None)
    parts = [*said[-1:], dataset_name(shown) if shown else "", split if split and split != "train" else ""]
    return "-".join(["embeddings", *(part.replace("/", "-").replace(":", "-") for part in parts if part)])
