"""What turns a backbone's features into class logits."""

from torch import nn

from trainables.config import HeadKind
from trainables.errors import InputError

PAPER_LOGITS = 1000
"""Outputs of the layer that the paper left in front of its own."""


def new_head(kind: HeadKind, features: int, classes: int, original: nn.Module | None) -> nn.Sequential | nn.Linear:
    """Return a head, freshly initialised from torch's global random state.

    Args:
        kind: ``projection``: Linear, ReLU, Linear ("an additional projection head with a ReLU activation", Jimenez &
            Hale 2023); ``linear``: one Linear, for a linear probe; ``paper``: the backbone's own layer of 1,000
            outputs, ReLU, Linear, exactly as in the paper's code.
        features: Width D of the backbone's features.
        classes: Number of classes.
        original: The backbone's own final layer, kept by ``paper`` alone; None: it has none.

    Raises:
        InputError: ``paper`` was asked for a backbone without a layer of 1,000 outputs.
    """
    if kind == "linear":
        return nn.Linear(features, classes)
    if kind == "projection":
        # As wide as the features, like SimCLR's own projection head (Chen et al. 2020, section 2.1).
        return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, classes))
    if original is None:
        raise InputError("--head paper keeps the backbone's layer of 1,000 outputs, and this backbone has none.")
    return nn.Sequential(original, nn.ReLU(), nn.Linear(PAPER_LOGITS, classes))
