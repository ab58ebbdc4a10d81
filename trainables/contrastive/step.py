"""One step of SimCLR: the loss over the whole batch, whatever part of it is on a device at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from trainables.config import Geometry
from trainables.contrastive.config import PretrainConfig
from trainables.contrastive.encoder import SimCLR
from trainables.contrastive.nt_xent import alignment, contrast, contrastive_top1, similarities, uniformity
from trainables.contrastive.processes import Processes
from trainables.contrastive.views import Drawn, view
from trainables.data.transforms import standardise
from trainables.training.device import Compute


@dataclass(frozen=True)
class Learner:
    """A network, its optimiser and the way it computes: all that a step changes."""

    config: PretrainConfig
    network: SimCLR
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    compute: Compute
    geometry: Geometry
    processes: Processes
    micro_batch: int | None
    """Images of this process that are on its device at a time; None: all of its share."""


def train_step(learner: Learner, pixels: Tensor, drawn: tuple[Drawn, Drawn]) -> Tensor:
    """Take one step, and return its loss, contrastive accuracy, alignment and uniformity, (4,) float32.

    Where the share of the batch does not fit on the device, its projections are computed part by part without a graph,
    the gradient of the loss over the whole batch is taken with respect to them, and each part is computed again to pass
    its gradient on (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). It is
    the whole batch's gradient, but for batch norm, which takes its statistics from a part.

    Args:
        learner: What is trained.
        pixels: (b, 3, R, R) uint8 images, this process's share of the batch.
        drawn: How their first and second views are made.
    """
    parts = _parts(len(pixels), learner.micro_batch)
    if len(parts) == 1:
        own = projections(learner, pixels, drawn)
    else:
        with torch.no_grad():
            own = torch.cat([_unnoticed(learner, pixels[part], _part(drawn, part)) for part in parts], dim=1)
    everyone = learner.processes.gathered(own.detach()).requires_grad_()
    similar = similarities(everyone)
    loss = contrast(similar, learner.config.temperature)
    (gradient,) = torch.autograd.grad(learner.scaler.scale(loss), everyone)
    gradient = gradient[:, learner.processes.share(everyone.shape[1])]
    learner.optimizer.zero_grad(set_to_none=True)
    for part in parts:
        made = own if len(parts) == 1 else projections(learner, pixels[part], _part(drawn, part))
        made.backward(gradient[:, part])  # type: ignore[no-untyped-call] # torch leaves it untyped
    learner.processes.add_gradients(learner.network.parameters())
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    with torch.no_grad():
        return torch.stack([loss, contrastive_top1(similar), alignment(similar), uniformity(similar)])


def projections(learner: Learner, pixels: Tensor, drawn: tuple[Drawn, Drawn]) -> Tensor:
    """Return the projections of both views of images, (2, b, D) float32."""
    images = both_views(learner, pixels, drawn)
    with autocast(learner):
        made: Tensor = learner.network(images)
    return made.float().view(2, len(pixels), -1)


def both_views(learner: Learner, pixels: Tensor, drawn: tuple[Drawn, Drawn]) -> Tensor:
    """Return the first, then the second views of images, (2b, 3, S, S) float32, as the encoder takes them."""
    size = learner.config.image_size
    views = torch.cat([view(pixels, one, size) for one in drawn])
    return standardise(views, learner.geometry).contiguous(memory_format=torch.channels_last)


def autocast(learner: Learner) -> torch.autocast:
    """Return the context in which the learner's network computes."""
    compute = learner.compute
    return torch.autocast(compute.device.type, dtype=compute.autocast, enabled=compute.autocast is not None)


def _unnoticed(learner: Learner, pixels: Tensor, drawn: tuple[Drawn, Drawn]) -> Tensor:
    """Return projections as `projections` does, without batch norm's noting their statistics a first time."""
    images = both_views(learner, pixels, drawn)
    copies = {name: values.clone() for name, values in learner.network.named_buffers()}
    with autocast(learner):
        made: Tensor = functional_call(learner.network, copies, (images,))
    return made.float().view(2, len(pixels), -1)


def _parts(images: int, most: int | None) -> list[slice]:
    size = min(most or images, images)
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


def _part(drawn: tuple[Drawn, Drawn], images: slice) -> tuple[Drawn, Drawn]:
    return drawn[0].part(images), drawn[1].part(images)
