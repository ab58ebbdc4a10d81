"""How much of a GPU's memory a trial needs: a step of its training, followed operation by operation without numbers.

On torch's meta device a tensor has a shape and a type but no values, so that a step takes a second and no memory, and
what is alive after each operation is what would be alive on a GPU. Not counted: the CUDA context, the workspaces of
convolutions and what the allocator leaves unused.
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from trainables.config import Augment, FreezeMode, MemoryNeed, ModelConfig
from trainables.data.transforms import augment as augmented
from trainables.errors import InputError
from trainables.networks import freeze
from trainables.networks.backbones import Network, build
from trainables.networks.frozen_part import split
from trainables.networks.identity import architecture_of, geometry_of
from trainables.training.epoch import EVALUATION_BATCH

_FEW, _MANY = 2, 4
"""Images of the two steps that are compared; batch norm needs two."""

_AUTOCAST = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "linear", "multi_head_attention_forward"), torch.bfloat16),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "prelu"), torch.bfloat16),
    **dict.fromkeys(("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "einsum"), torch.bfloat16),
    **dict.fromkeys(("scaled_dot_product_attention",), torch.bfloat16),
    **dict.fromkeys(("layer_norm", "group_norm", "rms_norm", "norm", "softmax", "log_softmax"), torch.float32),
    **dict.fromkeys(("interpolate", "softplus", "pow", "exp", "log", "rsqrt", "sum", "prod", "cumsum"), torch.float32),
}
"""The type in which autocast computes a function on a GPU; the others take the types that come. These are what networks
for images use of the lists in torch 2.14's ATen/autocast_mode.h; bfloat16 stands for float16 too. The tests compare
them with what torch does."""


@functools.lru_cache(maxsize=128)
def estimate(
    model: ModelConfig, mode: FreezeMode, *, classes: int, augment: Augment, width: int, data_dir: str | None = None
) -> MemoryNeed:
    """Estimate what a trial that trains `model` needs of a GPU's memory.

    No weights are loaded, since no shape depends on them.

    Args:
        model: The network.
        mode: What of it trains.
        classes: Number of classes.
        augment: Whether images are augmented; if not, a frozen backbone's features are computed once for all trials.
        width: Bytes of an activation: 2 for autocast to float16 or bfloat16, 4 for float32.
        data_dir: As in `MachineConfig`.

    Raises:
        InputError: The backbone or its image size cannot be used, or a step of its training fails.
    """
    try:
        return _estimate(model, mode, classes, augment, width, data_dir, torch.device("meta"))
    except InputError:
        raise
    except Exception:  # noqa: BLE001 - a user's network raises what it likes
        # It looks at values or makes tensors on the CPU: a few images have to pass through it in earnest.
        pass
    try:
        return _estimate(model, mode, classes, augment, width, data_dir, torch.device("cpu"))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"--backbone {model.backbone}: a step of its training fails ({error}).") from error


def _estimate(
    config: ModelConfig,
    mode: FreezeMode,
    classes: int,
    augment: Augment,
    width: int,
    data_dir: str | None,
    device: torch.device,
) -> MemoryNeed:
    network = _network(config, classes, data_dir, device)
    freeze.apply(network, mode)
    size = geometry_of(config).crop
    whole = _Part(network.model, (3, size, size), torch.uint8, device, width, augment)
    network.model.eval()
    evaluation = _bytes_per_image(functools.partial(_evaluate, whole))
    trained = _trained_part(whole, network, config, mode)
    freeze.train_mode(network, mode)
    training = _bytes_per_image(functools.partial(_train, trained))
    fixed = _fixed_bytes(network.model, width)
    return MemoryNeed(
        fixed_bytes=fixed, bytes_per_image=training, least_bytes=fixed + round(EVALUATION_BATCH * evaluation)
    )


@dataclass(frozen=True)
class _Part:
    """A network, or the tail of one, and the way it is trained."""

    module: nn.Module
    shape: tuple[int, ...]
    """Shape of one of its inputs."""
    dtype: torch.dtype
    """Type of its inputs: uint8 pixels or float32 features."""
    device: torch.device
    width: int
    augment: Augment

    def inputs(self, images: int) -> Tensor:
        return torch.zeros((images, *self.shape), dtype=self.dtype, device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        return _Autocast() if self.width == torch.bfloat16.itemsize else nullcontext()


def _network(config: ModelConfig, classes: int, data_dir: str | None, device: torch.device) -> Network:
    """Build a trial's network, with values of no meaning where they are published."""
    published = bool(architecture_of(config.backbone))
    # A user's own backbone brings its own.
    free = dataclasses.replace(config, weights="none" if published else "default", weights_name=None)
    make = functools.partial(build, free, classes, data_dir=data_dir, seed=0)
    try:
        # Drawing initial values would take longer than all the rest.
        with torch.device("meta") if published and device.type == "meta" else nullcontext():
            network = make()
    except (InputError, RuntimeError):
        network = make()  # MaxViT's constructor looks at values.
    network.model.to(device)
    return network


def _trained_part(whole: _Part, network: Network, config: ModelConfig, mode: FreezeMode) -> _Part:
    """Return what is trained on: the head alone where `feature_store.applies` and what is cached is sure to be small.

    With freeze mode ``partial`` a machine may have no room for the features; then, the whole network is needed.
    """
    if mode != "backbone" or whole.augment != "none" or config.head == "paper":
        return whole
    parts = split(network, freeze.moving(network, mode))
    if parts is None:
        return whole
    with torch.no_grad():
        features = parts.frozen(whole.inputs(_FEW).to(torch.float32))
    return dataclasses.replace(whole, module=parts.tail, shape=tuple(features.shape[1:]), dtype=torch.float32)


def _fixed_bytes(model: nn.Module, width: int) -> int:
    """Return what lies on the GPU at any time: parameters, buffers, gradients and Adam's two moments."""
    held = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    fixed = held + 3 * sum(parameter.nbytes for parameter in trained)
    if width < torch.float32.itemsize:
        # Autocast keeps a copy in its own type of each weight that trains until the step's forward pass is over, and
        # the graph keeps it from then on; of frozen weights it makes one at a time.
        fixed += width * (sum(p.numel() for p in trained) + max((p.numel() for p in frozen), default=0))
    return fixed


def _bytes_per_image(step: Callable[[int], list[int]]) -> float:
    """Return the most that an image adds to what is alive at any point of a step.

    What does not grow with the images, such as the parameters' gradients, drops out of the difference of two steps.
    """
    few, many = step(_FEW), step(_MANY)
    if len(few) != len(many):
        # Not the same operations twice: all of it might grow.
        return max(many) / _MANY
    return max(more - less for less, more in zip(few, many, strict=True)) / (_MANY - _FEW)


def _train(part: _Part, images: int) -> list[int]:
    """Take a step as `learning.train_epoch` does and return the bytes that are alive after each operation."""
    part.module.zero_grad(set_to_none=True)
    alive = _Alive(part.module)
    with torch.random.fork_rng(devices=[]), alive:
        torch.manual_seed(0)
        labels = torch.zeros(images, dtype=torch.int64, device=part.device)
        inputs, following = part.inputs(images), part.inputs(images)  # The next batch is on its way.
        seen = augmented(inputs, 0) if part.augment == "standard" else inputs
        with part.autocast():
            loss = cross_entropy(_forward(part, seen).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        del following
    return alive.bytes_after


def _evaluate(part: _Part, images: int) -> list[int]:
    """Pass images through the network as `learning.predict` does and return the bytes alive after each operation."""
    alive = _Alive(part.module)
    with torch.no_grad(), alive, part.autocast():
        _forward(part, part.inputs(images))
    return alive.bytes_after


def _forward(part: _Part, inputs: Tensor) -> Tensor:
    # As much as `transforms.normalise` allocates.
    given = inputs.to(torch.float32).div_(255) if part.dtype == torch.uint8 else inputs
    logits: Tensor = part.module(given)
    return logits


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call] # so are its initialisers
    """Keeps account of the memory of all tensors that are made while it is on, each storage once."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes_after: list[int] = []
        self._bytes = 0
        self._known = {_key(tensor) for tensor in (*module.parameters(), *module.buffers())}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and _key(tensor) not in self._known:
                storage = tensor.untyped_storage()
                self._known.add(_key(tensor))
                self._bytes += storage.nbytes()
                # Views, autograd and Python share the storage; it goes with the last of them.
                weakref.finalize(storage, self._forget, _key(tensor), storage.nbytes())
        self.bytes_after.append(self._bytes)
        return made

    def _forget(self, key: int, size: int) -> None:
        self._known.remove(key)
        self._bytes -= size


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Autocast(TorchFunctionMode):
    """Chooses types as autocast does on a GPU; torch's own leaves the meta device alone."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        dtype = _AUTOCAST.get(getattr(func, "__name__", ""))
        if dtype is None:
            return func(*args, **(kwargs or {}))
        # One copy of a tensor that is given twice: self-attention is recognised by its three equal arguments.
        copies: dict[int, Tensor] = {}
        args, kwargs = tree_map(functools.partial(_cast, dtype=dtype, copies=copies), (args, kwargs or {}))
        return func(*args, **kwargs)


def _cast(value: object, dtype: torch.dtype, copies: dict[int, Tensor]) -> object:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    if id(value) not in copies:
        copies[id(value)] = value.to(dtype)
    return copies[id(value)]
