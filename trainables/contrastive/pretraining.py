"""A pretraining: a plain generator that takes a configuration and yields one result per epoch, then the encoder."""

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from trainables.contrastive import checkpoint
from trainables.contrastive.config import (
    PretrainConfig,
    PretrainedEncoder,
    PretrainEpoch,
    PretrainMachine,
    stored_geometry,
    view_geometry,
)
from trainables.contrastive.encoder import new_network
from trainables.contrastive.knn import knn_accuracy
from trainables.contrastive.optimizer import learning_rate, new_optimizer
from trainables.contrastive.processes import ALONE, Processes, check_share
from trainables.contrastive.step import Learner, autocast, train_step
from trainables.contrastive.views import Drawn, draw
from trainables.data.datasets import training_images
from trainables.data.image_store import open_store
from trainables.data.splits import Splits, split
from trainables.data.transforms import normalise
from trainables.errors import InputError
from trainables.networks.published import GEOMETRY_KEY
from trainables.seeds import stream
from trainables.steps import LongWork
from trainables.training.device import choose, step_back

logger = logging.getLogger(__name__)

PRETRAINING_KEY = "pretraining"
"""Key in an encoder's metadata: its `PretrainConfig` as JSON."""
RESULT_KEY = "pretraining_result"
"""Key in an encoder's metadata: the last epoch, and the kNN accuracy of the random network, as JSON."""
MICRO_BATCH_KEY = "micro_batch"
"""Key in an encoder's metadata: the most images that batch norm took its statistics from; missing: a whole batch."""
_ONE_POINT = -0.1
"""From this uniformity on nearly all images are one point: their mean squared distance is about 0.05."""
_EVALUATION_BATCH = 256
"""Images at a time where nothing is learned; it decides no number, only memory."""


@dataclasses.dataclass(frozen=True)
class PretrainData:
    """The training split of a dataset, decoded."""

    pixels: np.ndarray
    """(N, 3, R, R) uint8."""
    labels: Tensor
    """(N,) int64; they serve the kNN accuracy alone."""
    splits: Splits


def pretrain(
    config: PretrainConfig,
    machine: PretrainMachine,
    processes: Processes = ALONE,
    *,
    resume_from: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Generator[PretrainEpoch | PretrainedEncoder, None, None]:
    """Train an encoder without labels (Chen et al. 2020) and yield each epoch's result, then the encoder.

    Args:
        config: What to train.
        machine: What the machine gives.
        processes: Which of several processes this is; all of them iterate, with the same arguments.
        resume_from: What `save` was given last for this very configuration: its epochs are yielded again from the
            record, and training continues after them, on a CPU number for number as if it had never stopped.
        save: Called with the whole state before an epoch's result is yielded, in the first process alone.

    Raises:
        InputError: The data or the network cannot be used.
        CheckpointError: `resume_from` is torn or belongs to another configuration.
    """
    data = open_pretrain_data(config, machine)
    learner = new_learner(config, machine, processes)
    is_first = processes.rank == 0
    if resume_from is not None:
        progress = checkpoint.restore(resume_from, learner)
        if is_first:
            logger.info("continuing after epoch %d of %d", len(progress.epochs), config.epochs)
    else:
        progress = checkpoint.Progress(knn(learner, data) if is_first else float("nan"), [])
        if is_first:
            logger.info("before the first step: kNN %.4f", progress.random_knn_accuracy)
    yield from progress.epochs
    for number in range(len(progress.epochs) + 1, config.epochs + 1):
        epoch = _run_epoch(learner, data, number)
        if is_first:
            _warn_of_collapse(config, [*progress.epochs, epoch], len(data.splits.train) // config.batch_size)
        progress.epochs.append(epoch)
        if save is not None and is_first and epoch.is_finite:
            save(checkpoint.dump(learner, progress))
        yield epoch
    if is_first:
        yield PretrainedEncoder(
            encoder=encoder_file(learner, progress), random_knn_accuracy=progress.random_knn_accuracy
        )


def open_pretrain_data(config: PretrainConfig, machine: PretrainMachine) -> PretrainData:
    """Open the training split of the dataset at the size that views are cut from.

    Raises:
        InputError: The dataset is missing or unreadable, or no step can be taken with it.
    """
    given = machine.machine
    images = training_images(config.data, given.data_dir)
    splits = split(images, config.data)
    # Before the images are decoded.
    check_batch(config, machine.processes, len(splits.train))
    pixels = open_store(images, stored_geometry(config.image_size), given.data_dir, given.cache_bytes)
    return PretrainData(pixels, torch.from_numpy(images.labels), splits)


def new_learner(config: PretrainConfig, machine: PretrainMachine, processes: Processes = ALONE) -> Learner:
    """Build a random network and its optimiser on this process's device.

    Raises:
        InputError: The backbone is none that can be pretrained, or the precision none of this machine.
    """
    step_back(machine.machine.nice)
    network = new_network(config.backbone, config.projection, stream(config.seed, "network"), processes)
    compute = choose(config.precision, machine.machine.threads, network)
    network.to(compute.device)
    return Learner(
        config=config,
        network=network,
        optimizer=new_optimizer(config, network),
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.autocast is torch.float16),
        compute=compute,
        geometry=view_geometry(config.image_size),
        processes=processes,
        micro_batch=machine.machine.micro_batch,
    )


def check_batch(config: PretrainConfig, processes: int, images: int) -> None:
    """See that a step can be taken, by so many processes with so many images.

    Raises:
        InputError: There are fewer images than in a batch, or a batch cannot be shared.
    """
    if config.batch_size > images:
        raise InputError(
            f"--batch-size {config.batch_size}: {config.data.dataset} has {images} images to pretrain on; give at most"
            " so many."
        )
    check_share(config.batch_size, processes)


def drawn_views(config: PretrainConfig, epoch: int, step: int) -> tuple[Drawn, Drawn]:
    """Return how the two views of each image of a batch are made."""
    generator = torch.Generator().manual_seed(stream(config.seed, "views", epoch, step))
    return draw(config.views, config.batch_size, generator), draw(config.views, config.batch_size, generator)


def features(learner: Learner, pixels: np.ndarray, indices: np.ndarray) -> Tensor:
    """Return the encoder's features of the images at `indices`, (I, D) float32 on its device, in eval mode."""
    learner.network.eval()
    margin = (pixels.shape[-1] - learner.geometry.crop) // 2
    centre = slice(margin, margin + learner.geometry.crop)
    found = []
    with torch.inference_mode(), autocast(learner):
        for start in range(0, len(indices), _EVALUATION_BATCH):
            chosen = pixels[indices[start : start + _EVALUATION_BATCH], :, centre, centre]
            images = normalise(torch.from_numpy(chosen).to(learner.compute.device), learner.geometry)
            found.append(learner.network.encoder(images.contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(found)


def knn(learner: Learner, data: PretrainData) -> float:
    """Return the share of validation images that the training images classify right, by the encoder's features."""
    train, validation = data.splits.train, data.splits.validation
    device = learner.compute.device
    return knn_accuracy(
        features(learner, data.pixels, train),
        data.labels[torch.from_numpy(train)].to(device),
        features(learner, data.pixels, validation),
        data.labels[torch.from_numpy(validation)].to(device),
    )


def encoder_file(learner: Learner, progress: checkpoint.Progress) -> bytes:
    """Return the encoder as a safetensors file, with torchvision's names, its preprocessing and its configuration."""
    result = {"random_knn_accuracy": progress.random_knn_accuracy, **dataclasses.asdict(progress.epochs[-1])}
    metadata = {
        GEOMETRY_KEY: json.dumps(dataclasses.asdict(learner.geometry)),
        PRETRAINING_KEY: json.dumps(dataclasses.asdict(learner.config)),
        RESULT_KEY: json.dumps(result),
    }
    if learner.micro_batch is not None:
        metadata[MICRO_BATCH_KEY] = str(learner.micro_batch)
    state = learner.network.encoder.state_dict()
    return to_safetensors({name: values.cpu().contiguous() for name, values in state.items()}, metadata)


def _run_epoch(learner: Learner, data: PretrainData, number: int) -> PretrainEpoch:
    config = learner.config
    begun = time.perf_counter()
    learner.network.train()
    work = LongWork(logger, "pretraining")
    steps = len(data.splits.train) // config.batch_size
    totals = torch.zeros(4, device=learner.compute.device)
    rate = 0.0
    for step, batch in enumerate(_batches(config, data.splits.train, number)):
        rate = learning_rate(config, (number - 1) * steps + step, steps)
        for group in learner.optimizer.param_groups:
            group["lr"] = rate
        own = learner.processes.share(config.batch_size)
        first, second = drawn_views(config, number, step)
        totals += train_step(learner, _on_device(learner, data.pixels[batch[own]]), (first.part(own), second.part(own)))
        if learner.processes.rank == 0:
            work.at(step + 1, steps, "epoch %d of %d: step %d of %d", number, config.epochs, step + 1, steps)
    loss, top1, aligned, uniform = (totals / steps).tolist()
    trained = time.perf_counter()
    is_measured = number % config.knn_every == 0 or number == config.epochs
    accuracy = knn(learner, data) if is_measured and learner.processes.rank == 0 else None
    return PretrainEpoch(
        epoch=number,
        loss=loss,
        top1=top1,
        alignment=aligned,
        uniformity=uniform,
        learning_rate=rate,
        seconds=time.perf_counter() - begun,
        images_per_second=steps * config.batch_size / (trained - begun),
        knn_accuracy=accuracy,
    )


def _batches(config: PretrainConfig, indices: np.ndarray, epoch: int) -> Iterator[np.ndarray]:
    """Yield the epoch's batches; images that do not fill one wait for another epoch, as in the paper's code."""
    order = np.random.default_rng(stream(config.seed, "order", epoch)).permutation(indices)
    for start in range(0, len(order) - config.batch_size + 1, config.batch_size):
        yield order[start : start + config.batch_size]


def _on_device(learner: Learner, pixels: np.ndarray) -> Tensor:
    images = torch.from_numpy(pixels)
    if learner.compute.device.type == "cuda":
        images = images.pin_memory()
    return images.to(learner.compute.device, non_blocking=True)


def _warn_of_collapse(config: PretrainConfig, epochs: list[PretrainEpoch], steps: int) -> None:
    """Say once that images cannot be told apart any more; before the learning rate has risen they often cannot yet.

    Where the encoder gives all images nearly the same features, the batch norm that ends the projection head spreads
    what is left, noise, over the sphere: not uniformity tells it then but views that find each other by chance alone.
    """
    chance = 1 / (2 * config.batch_size - 1)
    by_chance = chance + math.sqrt(chance * (1 - chance) / (2 * config.batch_size * steps))
    collapsed = [
        one
        for one in epochs
        if one.epoch > config.warmup_epochs and (one.uniformity > _ONE_POINT or one.top1 <= by_chance)
    ]
    if [one.epoch for one in collapsed] == [epochs[-1].epoch]:
        logger.warning(
            "the embeddings have collapsed in epoch %d: images cannot be told apart (uniformity %.2f; top-1 %.4f, by"
            " chance %.4f); stop it, and take a lower --learning-rate, more --warmup-epochs or another --temperature",
            epochs[-1].epoch,
            epochs[-1].uniformity,
            epochs[-1].top1,
            chance,
        )
