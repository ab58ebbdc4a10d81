"""The network of a final model, from the file that its retrain wrote."""

import dataclasses
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from trainables.config import ModelConfig
from trainables.errors import InputError
from trainables.networks.backbones import Network, build
from trainables.networks.identity import architecture_of, verify


def load_final(weights: Path, config: ModelConfig, classes: int) -> Network:
    """Build the network of `config` and give it the values of a safetensors file.

    Args:
        weights: The file that a retrain wrote.
        config: The study's; its own weights are not looked for.
        classes: Outputs of its head.

    Raises:
        InputError: The file is gone, damaged or another network's, or a user's own backbone is not what it was.
    """
    # The file has all values: what the study began with need not be here.
    blank = dataclasses.replace(
        config,
        weights="none" if architecture_of(config.backbone) else "default",
        weights_name=None,
        weights_sha256=None,
    )
    verify(blank, None)
    network = build(blank, classes, data_dir=None, seed=0)
    try:
        network.model.load_state_dict(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{weights}: the file is missing, damaged or was cut short ({error}).") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{weights}: the file does not fit a {config.backbone} ({reason}).") from error
    return network
