"""Freeze modes: which parts of a network train, and what holds still in the others."""

from collections.abc import Iterator

from torch import Tensor, nn

from trainables.config import FreezeMode, ModelConfig
from trainables.errors import InputError
from trainables.networks.backbones import Network


def check(model: ModelConfig, mode: FreezeMode) -> None:
    """See that what `mode` freezes holds more than random values.

    Raises:
        InputError: It does not.
    """
    if model.weights == "none" and mode != "none":
        raise InputError(
            f"--weights none leaves nothing to freeze: freeze_mode {mode!r} would hold random values still; use"
            ' freeze_mode = "none".'
        )


def check_batch_of_one(network: Network, mode: FreezeMode) -> None:
    """See that what trains in `mode` can learn from one image at a time.

    Raises:
        InputError: It has batch norm, for which one image has no spread.
    """
    paths = tuple(f"{path}." for path in moving(network, mode))
    for name, module in network.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (mode == "none" or f"{name}.".startswith(paths)):
            raise InputError(
                f"batch_size = 1 with freeze_mode {mode!r}: batch norm, as in {name}, cannot learn from a single image;"
                " give batches of 2 and more."
            )


def apply(network: Network, mode: FreezeMode) -> None:
    """Let gradients flow to what trains in `mode`, and to nothing else."""
    network.model.requires_grad_(mode == "none")
    for path in moving(network, mode):
        network.model.get_submodule(path).requires_grad_(True)


def train_mode(network: Network, mode: FreezeMode) -> None:
    """Put what trains into training mode and the rest into eval mode: its batch statistics and dropout hold still."""
    network.model.train(mode == "none")
    for path in moving(network, mode):
        network.model.get_submodule(path).train()


def trainable_parameters(network: Network) -> Iterator[nn.Parameter]:
    """Yield the parameters that `apply` left free, in the network's order."""
    return (parameter for parameter in network.model.parameters() if parameter.requires_grad)


def moving_state(network: Network, mode: FreezeMode) -> dict[str, Tensor]:
    """Return the entries of the state dict that can change in `mode`: of a frozen backbone, the head's only."""
    prefixes = tuple(f"{path}." for path in moving(network, mode))
    state = network.model.state_dict()
    return {key: value for key, value in state.items() if mode == "none" or key.startswith(prefixes)}


def load_moving_state(network: Network, state: dict[str, Tensor], mode: FreezeMode) -> None:
    """Put back what `moving_state` gave.

    Raises:
        InputError: The entries are not those that move in `mode`.
    """
    if state.keys() != moving_state(network, mode).keys():
        raise InputError(f"the saved parameters are not those of freeze mode {mode}")
    network.model.load_state_dict(state, strict=False)


def moving(network: Network, mode: FreezeMode) -> tuple[str, ...]:
    """Return the paths of the modules that train where the whole network does not."""
    match mode:
        case "none":
            return ()
        case "partial":
            return (*network.last_stage, network.head_path)
        case "backbone":
            return (network.head_path,)
