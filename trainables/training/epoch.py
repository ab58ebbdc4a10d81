"""The arithmetic of an epoch: one pass over the training images, one over the images that judge."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.config import Geometry, TrialConfig
from trainables.data.transforms import augment, normalise
from trainables.networks import freeze
from trainables.networks.backbones import Network, build
from trainables.networks.identity import geometry_of
from trainables.seeds import stream
from trainables.training.adam import EagerAdam
from trainables.training.device import Compute, choose, step_back

EVALUATION_BATCH = 64
"""Images per batch when nothing is learned, as in Jimenez & Hale (2023). Where a network is judged in eval mode it
decides no number, only memory; where in training mode, the numbers follow from it, and it is the same on any device."""


@dataclass(frozen=True)
class Examples:
    """What a network learns from: images with their labels."""

    inputs: np.ndarray
    """(N, 3, S, S) uint8 pixels for the whole network, or (N, ...) float32 features for its tail alone."""
    labels: Tensor
    """(N,) int64 class indices."""


@dataclass(frozen=True)
class Evaluation:
    """What a network is worth on some images."""

    accuracy: float
    """Share of images classified right, in [0, 1]."""
    loss: float
    """Mean cross-entropy, in nats."""
    predicted: np.ndarray
    """(N,) int64, the class of the largest logit."""


@dataclass(frozen=True)
class Learner:
    """A network, its optimiser and the way it computes: all that an epoch changes."""

    config: TrialConfig
    network: Network
    optimizer: torch.optim.Adam
    scaler: torch.amp.GradScaler
    compute: Compute
    geometry: Geometry
    tail: nn.Module | None = None
    """What follows the frozen part and takes its features; None: the learner is given pixels."""
    always_training: bool = False
    """Whether nothing is ever put into eval mode, frozen parts, validation and test included, as where a program never
    calls ``eval()``."""


def new_learner(config: TrialConfig, classes: int) -> Learner:
    """Build the network of `config` with a fresh head and its Adam optimiser (PyTorch's defaults but the rate).

    Raises:
        InputError: The backbone or its weights cannot be used.
    """
    return learner_of(config, new_network(config, classes))


def new_network(config: TrialConfig, classes: int) -> Network:
    """Build the network of `config` with a fresh head, on the CPU.

    Raises:
        InputError: The backbone or its weights cannot be used.
    """
    freeze.check(config.model, config.freeze_mode)
    return build(config.model, classes, data_dir=config.machine.data_dir, seed=config.seed)


def learner_of(config: TrialConfig, network: Network) -> Learner:
    """Return what trains a network as `config` says: on its device, with an Adam of its own.

    Raises:
        InputError: The precision is none of this machine's.
    """
    step_back(config.machine.nice)
    freeze.apply(network, config.freeze_mode)
    compute = choose(config.model.precision, config.machine.threads, network.model)
    network.model.to(compute.device)
    # Fused: 1.2 to 1.5 times the images per second of the plain one for ResNet-18 at 32 px on one CPU thread.
    optimizer = EagerAdam(freeze.trainable_parameters(network), lr=config.learning_rate, fused=True)
    scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.autocast is torch.float16)
    return Learner(
        config=config,
        network=network,
        optimizer=optimizer,
        scaler=scaler,
        compute=compute,
        geometry=geometry_of(config.model),
    )


def train_epoch(learner: Learner, examples: Examples, indices: np.ndarray, epoch: int) -> float:
    """Train once over the images at `indices`, in an order that (seed, epoch) alone decides.

    The order, the augmentation and dropout all follow from the trial's seed and the epoch's number, so that an epoch
    that is run again after an interruption gives the same numbers, and a checkpoint needs no random state.

    Returns:
        The mean cross-entropy of the images as they were trained on, in nats.
    """
    config = learner.config
    seed = _epoch_seed(config.seed, epoch)
    torch.manual_seed(seed)
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed)).numpy()
    freeze.train_mode(learner.network, "none" if learner.always_training else config.freeze_mode)
    total = torch.zeros((), device=learner.compute.device)
    steps = [
        list(batches(batch, config.machine.micro_batch or len(batch)))
        for batch in batches(indices[order], config.batch_size)
    ]
    loaded = _ahead(learner, examples, (part for parts in steps for part in parts))
    for parts in steps:
        size = sum(len(part) for part in parts)
        total += _train_step(learner, itertools.islice(loaded, len(parts)), size) * size
    return float(total) / len(indices)


def predict(learner: Learner, examples: Examples, indices: np.ndarray) -> Tensor:
    """Return the logits of the images at `indices`, (len(indices), classes) float32 on the CPU, in eval mode.

    Where the learner is `always_training`, the network is in training mode: batch norm's statistics are those of each
    batch, and move. Then the batches are of `EVALUATION_BATCH` images whatever memory training found, and they, and
    dropout, are drawn from the trial's seed: `indices` may be in the order of the classes, and a batch of one class
    has the statistics of that class.
    """
    learner.network.model.train(learner.always_training)
    order, size = np.arange(len(indices)), evaluation_batch(learner.config)
    if learner.always_training:
        seed = stream(learner.config.seed, "evaluation")
        order, size = np.random.default_rng(seed).permutation(len(indices)), EVALUATION_BATCH
        torch.manual_seed(seed)
    logits = []
    with torch.inference_mode():
        for batch in batches(indices[order], size):
            images, _ = on_device(learner, examples, batch)
            logits.append(forward(learner, images).float())
        return torch.cat(logits).cpu()[torch.from_numpy(np.argsort(order))]


def batches(indices: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Cut `indices` into batches; a last batch of one image joins the one before, for batch norm needs two."""
    starts = list(range(0, len(indices), batch_size))
    if len(starts) > 1 and len(indices) - starts[-1] == 1:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(indices)], strict=True):
        yield indices[start:end]


def evaluation_batch(config: TrialConfig) -> int:
    """Return how many images are on the device at a time where nothing is learned."""
    return min(EVALUATION_BATCH, config.machine.micro_batch or EVALUATION_BATCH)


def evaluate(learner: Learner, examples: Examples, indices: np.ndarray) -> Evaluation:
    """Judge a network by the images at `indices`, at least one."""
    logits = predict(learner, examples, indices)
    labels, predicted = examples.labels[torch.from_numpy(indices)], logits.argmax(dim=1)
    accuracy = (predicted == labels).double().mean()
    return Evaluation(float(accuracy), float(cross_entropy(logits.double(), labels)), predicted.numpy())


def _train_step(learner: Learner, parts: Iterator[tuple[Tensor, Tensor]], size: int) -> Tensor:
    """Take one step of Adam on the `size` images of `parts`; return their mean loss, detached, still on the device."""
    learner.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=learner.compute.device)
    for images, labels in parts:
        if learner.config.data.augment == "standard":
            images = augment(images, int(torch.randint(2**31, ()).item()))
        loss = cross_entropy(forward(learner, images).float(), labels) * (len(labels) / size)
        learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        total += loss.detach()
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    return total


def forward(learner: Learner, inputs: Tensor) -> Tensor:
    """Return the logits of a batch of pixels, or of features, as `Examples` has them."""
    with autocast(learner):
        if learner.tail is None:
            logits: Tensor = learner.network.model(normalise(inputs, learner.geometry))
        else:
            logits = learner.tail(inputs)
    return logits


def autocast(learner: Learner) -> torch.autocast:
    """Return the context in which the learner's network computes."""
    compute = learner.compute
    return torch.autocast(compute.device.type, dtype=compute.autocast, enabled=compute.autocast is not None)


def on_device(learner: Learner, examples: Examples, batch: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the inputs and labels at the indices `batch`, on the learner's device."""
    device = learner.compute.device
    inputs, labels = torch.from_numpy(examples.inputs[batch]), examples.labels[torch.from_numpy(batch)]
    if device.type == "cuda":
        # From pinned memory a transfer needs no waiting for.
        inputs, labels = inputs.pin_memory(), labels.pin_memory()
    return inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _ahead(learner: Learner, examples: Examples, parts: Iterator[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and labels at each of `parts` when the next ones are on their way to the device.

    A GPU gets them on a stream of their own, so that they travel while it computes. Not run on a GPU yet.
    """
    device = learner.compute.device
    stream = _copy_stream(device) if device.type == "cuda" else None
    waiting = None
    for part in parts:
        with torch.cuda.stream(stream):
            sent = on_device(learner, examples, part), stream.record_event() if stream else None
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = sent
    if waiting is not None:
        yield _arrived(*waiting)


@functools.lru_cache(maxsize=1)
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One for the process: the allocator keeps freed memory by stream, and a new one each epoch would find none."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # so it is


def _arrived(batch: tuple[Tensor, Tensor], sent: torch.cuda.Event | None) -> tuple[Tensor, Tensor]:
    """Let what is computed from here on wait for the batch, and its memory wait for that."""
    if sent is not None:
        computing = torch.cuda.current_stream()
        computing.wait_event(sent)
        for tensor in batch:
            tensor.record_stream(computing)
    return batch


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint32)[0])
