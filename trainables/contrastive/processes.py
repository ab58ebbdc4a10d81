"""Several processes that share each batch: what they give each other, so that together they compute what one would."""

import datetime
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import batch_norm

from trainables.errors import InputError

_WAIT = datetime.timedelta(hours=2)
"""How long a process waits for another: the first of them measures the kNN accuracy alone."""


def check_share(batch_size: int, count: int) -> None:
    """See that `count` processes can share a batch.

    Raises:
        InputError: It is no multiple of them, or one would have a single image.
    """
    if not can_share(batch_size, count):
        raise InputError(
            f"--batch-size {batch_size}: it must be a multiple of the {count} processes, and each needs two images."
        )


def can_share(batch_size: int, count: int) -> bool:
    """Return whether each of `count` processes can have as many images of a batch as the others, and at least two."""
    return batch_size % count == 0 and batch_size // count >= 2


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    def share(self, images: int) -> slice:
        """Return which of the images of a batch are this process's; `images` is a multiple of `count`."""
        own = images // self.count
        return slice(self.rank * own, (self.rank + 1) * own)

    def gathered(self, projections: Tensor) -> Tensor:
        """Return what all processes have, (2, B, D), in the order of their shares of the (2, B / count, D) here."""
        if self.count == 1:
            return projections
        parts = [torch.empty_like(projections) for _ in range(self.count)]
        distributed.all_gather(parts, projections.contiguous())
        return torch.cat(parts, dim=1)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        begin = 0
        for gradient in gradients:
            gradient.copy_(flat[begin : begin + gradient.numel()].view_as(gradient))
            begin += gradient.numel()

    def share_statistics(self, network: nn.Module) -> None:
        """Let a network's batch norms take their statistics from all processes' images.

        torch's own `SyncBatchNorm` does so on cards alone.
        """
        if self.count == 1:
            return
        if torch.cuda.is_available():
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call] # torch leaves it untyped
            return
        for path, module in list(network.named_modules()):
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                network.set_submodule(path, _SharedBatchNorm(module))


ALONE = Processes()


@contextmanager
def joined(rank: int, count: int, meeting: Path) -> Iterator[Processes]:
    """Join `count` processes of this machine, each with a card of its own or all on the CPU.

    Args:
        rank: Which of them this is, from 0.
        count: How many there are.
        meeting: A file that is not there yet, the same for all, in a folder that is.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=count,
        timeout=_WAIT,
    )
    try:
        yield Processes(rank, count)
    finally:
        distributed.destroy_process_group()


class _SharedBatchNorm(nn.Module):
    """Batch norm over all processes' images (Ioffe & Szegedy 2015), with the names of the one that it replaces."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, plain: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        assert plain.momentum is not None
        self.weight, self.bias = plain.weight, plain.bias
        self.momentum, self.eps = plain.momentum, plain.eps
        for name, values in plain.named_buffers():
            self.register_buffer(name, values)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (B, C) or (B, C, H, W), and in training mode note the statistics."""
        if not self.training:
            return batch_norm(images, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        values = images.float()
        over = [0, *range(2, images.ndim)]
        count = math.prod(images.shape[dim] for dim in over) * distributed.get_world_size()
        mean: Tensor = _Sum.apply(values.sum(over)) / count
        shape = (1, -1, *([1] * (images.ndim - 2)))
        centred = values - mean.view(shape)
        variance: Tensor = _Sum.apply((centred * centred).sum(over)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight / (variance + self.eps).sqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(images.dtype)


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        """Return the sum."""
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of the sum of all processes' losses."""
        total = gradient.clone()
        distributed.all_reduce(total)
        return total
