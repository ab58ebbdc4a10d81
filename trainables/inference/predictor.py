"""A trained network that says how likely each class is, in float32 on a GPU where there is one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from joblib import cpu_count
from torch import nn

from trainables.config import ModelConfig
from trainables.data.transforms import normalise
from trainables.errors import InputError
from trainables.inference.preprocessing import Preprocessing
from trainables.networks.final import load_final
from trainables.training.device import is_out_of_memory


@dataclass(frozen=True)
class Predictor:
    """A network in eval mode, and how its images are prepared."""

    model: nn.Module
    """(B, 3, crop, crop) float32, normalised -> (B, classes) logits."""
    preprocessing: Preprocessing
    device: torch.device


def load_predictor(
    weights: Path, config: ModelConfig, preprocessing: Preprocessing, device: Literal["auto", "cpu"] = "auto"
) -> Predictor:
    """Build the network of `config` and give it the values of a safetensors file.

    Args:
        weights: The file that a retrain wrote.
        config: The study's; its own weights are not looked for.
        preprocessing: How its images are prepared.
        device: ``auto``: a GPU where there is one.

    Raises:
        InputError: The file is gone, damaged or another network's, a user's own backbone is not what it was, or the
            GPU has no memory left.
    """
    model = load_final(weights, config, len(preprocessing.classes)).model.eval()
    # torch counts the machine's cores, not those that this process may use.
    torch.set_num_threads(min(torch.get_num_threads(), cpu_count()))
    place = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")
    try:
        return Predictor(model.to(place), preprocessing, place)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            "the GPU has no memory left for the model; wait until it is free, or set CUDA_VISIBLE_DEVICES= (nothing) to"
            " predict on the CPU."
        ) from error


def probabilities(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    """Return how likely each class is, by the network's softmax.

    Images that do not fit the memory together are passed in parts. All is computed in float32, whatever the study's
    precision: so it is the same on every machine, but for the last digits.

    Args:
        predictor: The network.
        pixels: (B, 3, crop, crop) uint8, as `trainables.data.transforms.shrink` gives them.

    Returns:
        (B, classes) float32; each row's sum is 1.
    """
    try:
        with torch.inference_mode():
            images = normalise(torch.from_numpy(pixels).to(predictor.device), predictor.preprocessing.geometry)
            found: np.ndarray = predictor.model(images).softmax(dim=1).cpu().numpy()
            return found
    except RuntimeError as error:
        if len(pixels) == 1 or not is_out_of_memory(error):
            raise
    half = len(pixels) // 2
    return np.concatenate([probabilities(predictor, part) for part in (pixels[:half], pixels[half:])])
