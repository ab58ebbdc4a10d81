"""`hpo pretrain`: an encoder from images without labels."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.api.pretraining import PretrainImages, PretrainMachineOptions, PretrainOptions
from hpo.cli.groups import AsJson, grouped
from hpo.cli.output import print_json

if TYPE_CHECKING:
    from hpo.pretrain.run import Pretrained


@grouped
def pretrain(
    *,
    arch: Annotated[str, typer.Option(help="torchvision's name of a ResNet, such as resnet18 or wide_resnet50_2.")],
    images: PretrainImages,
    options: PretrainOptions,
    machine: PretrainMachineOptions,
    output: Annotated[
        Path | None,
        typer.Option(help="The encoder, a .safetensors file.", show_default="simclr-ARCH-DATASET.safetensors"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the splits, the network and the views.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Pretrain an encoder by SimCLR on images without their labels, for `hpo run --weights`.

    The same command continues it after an interruption.
    """
    from hpo.api.pretraining import pretrain as run

    command = shlex.join(["hpo", *sys.argv[1:]])
    made = run(arch, images=images, options=options, machine=machine, seed=seed, output=output, command=command)
    if as_json:
        print_json(made.summary)
    else:
        sys.stdout.write(_words(made, images, machine))


def _words(made: "Pretrained", images: PretrainImages, machine: PretrainMachineOptions) -> str:
    path = os.path.relpath(made.encoder)
    shown = path if "/" in path or "." in path else f"./{path}"
    network = ("--backbone", made.config.backbone, "--weights", shown)
    study = (*network, *_same_images(made, images, machine))
    return (
        f"kNN accuracy on images kept aside: {made.last.knn_accuracy:.4f}, of the random network"
        f" {made.random_knn_accuracy:.4f}\n"
        f"encoder: {path}\n"
        f"use it: {shlex.join(['hpo', 'run', *study, '--trials', '20'])}\n"
    )


def _same_images(made: "Pretrained", images: PretrainImages, machine: PretrainMachineOptions) -> list[str]:
    """Return the options by which a study divides the same images alike, so that it judges by none that were seen."""
    words = ["--dataset", made.config.data.dataset]
    if made.config.seed:
        words += ["--seed", str(made.config.seed)]
    if images.val_fraction != PretrainImages().val_fraction:
        words += ["--val-fraction", str(images.val_fraction)]
    if images.exif is not None:
        words += ["--exif", images.exif]
    if machine.data_dir is not None:
        words += ["--data-dir", machine.data_dir]
    words += ["--deduplicate"] if images.deduplicate else []
    words += ["--skip-bad-images"] if images.skip_bad_images else []
    return words
