"""Features of images in front of a network's head: from the store of features, or computed and kept there."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from trainables.config import DataConfig, MachineConfig, ModelConfig, TrialConfig
from trainables.data.datasets import LabelledImages
from trainables.data.image_store import open_store
from trainables.errors import InputError
from trainables.networks.backbones import Network, build
from trainables.networks.identity import geometry_of
from trainables.training.device import is_out_of_memory
from trainables.training.epoch import EVALUATION_BATCH, Examples, learner_of
from trainables.training.feature_store import with_features


@dataclass(frozen=True)
class Features:
    """What a network makes of images, and what it was given; both read-only and memory-mapped."""

    values: np.ndarray
    """(N, D) float32."""
    pixels: np.ndarray
    """(N, 3, crop, crop) uint8."""


def backbone_network(config: ModelConfig, data_dir: str | None, seed: int) -> Network:
    """Build a backbone with its weights; the head that stands behind it is not used.

    Args:
        config: As `trainables.networks.identity.resolve` gives it.
        data_dir: Where published weights are.
        seed: Decides what the weights do not set.

    Raises:
        InputError: The backbone or its weights cannot be used.
    """
    return build(dataclasses.replace(config, head="linear"), 2, data_dir=data_dir, seed=seed)


def features_of(network: Network, config: ModelConfig, images: LabelledImages, machine: MachineConfig) -> Features:
    """Return what stands in front of the network's head, in eval mode, on a GPU where there is one.

    The images are those of the store that studies share, and so are the features: what a trial with a frozen backbone
    has computed is not computed again. Batches that do not fit the device's memory are made smaller.

    Args:
        network: With its values.
        config: What it was built of: its geometry and precision.
        images: At least one.
        machine: What this machine gives.

    Raises:
        BadImagesError: Images cannot be read.
        InputError: The features do not fit the store or an image does not fit the device, or the network has no single
            tensor in front of its head.
    """
    pixels = open_store(images, geometry_of(config), machine.data_dir, machine.cache_bytes)
    examples = Examples(pixels, torch.from_numpy(images.labels))
    size = EVALUATION_BATCH
    while True:
        try:
            values = _stored(network, config, examples, dataclasses.replace(machine, micro_batch=size))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise InputError(
                    f"--backbone {config.backbone}: not even one image fits the memory; close other programs, or set"
                    " CUDA_VISIBLE_DEVICES= (nothing) to compute on the CPU."
                ) from error
            size //= 2
        else:
            break
    if values is pixels or values.ndim != 2:
        raise InputError(
            f"--backbone {config.backbone}: its features of {len(pixels)} images do not fit the store (--cache-size),"
            " or it has no single row of features in front of its head."
        )
    return Features(values, pixels)


def _stored(network: Network, config: ModelConfig, examples: Examples, machine: MachineConfig) -> np.ndarray:
    # Of a network that has its values nothing in front of the head is random, whatever the head; and nothing trains.
    trial = TrialConfig(
        data=DataConfig(dataset=""),
        model=dataclasses.replace(config, head="linear"),
        learning_rate=0.0,
        batch_size=EVALUATION_BATCH,
        epochs=0,
        freeze_mode="backbone",
        machine=machine,
    )
    return with_features(learner_of(trial, network), examples)[1].inputs
