"""SimCLR's own hyperparameters, studied: a pretraining as a trainable, judged by the kNN accuracy after each epoch."""

import dataclasses
from collections.abc import Callable, Generator

from trainables.config import PAPER_BACKBONES, DataConfig, EpochResult, ModelConfig, TrainableConfig
from trainables.contrastive.config import (
    SMALL_IMAGE,
    PretrainConfig,
    PretrainEpoch,
    PretrainMachine,
    composed,
    stored_geometry,
    usual_size,
)
from trainables.contrastive.pretraining import pretrain
from trainables.errors import InputError
from trainables.networks.small_stem import PREFIX, resnets


def run_trial(
    config: TrainableConfig,
    *,
    resume_from: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Generator[EpochResult, None, None]:
    """Pretrain one configuration and yield each epoch's result, as a trainable (`trainables.trainable`).

    `val_accuracy` is the kNN accuracy on the validation images, `train_loss` NT-Xent, in nats.

    Raises:
        InputError: The data or the network cannot be used.
        CheckpointError: `resume_from` is torn or belongs to another configuration.
    """
    machine = PretrainMachine(machine=config.machine)
    for result in pretrain(pretrain_config(config), machine, resume_from=resume_from, save=save):
        if isinstance(result, PretrainEpoch):
            yield _as_result(result)


def pretrain_config(config: TrainableConfig) -> PretrainConfig:
    """Return the pretraining that a trial is; a parameter that its space leaves out is that of `hpo pretrain`."""
    assert config.model.image_size is not None
    return composed(
        config.data,
        config.model.backbone,
        config.model.image_size,
        config.params,
        knn_every=1,
        precision=config.model.precision,
        seed=config.seed,
    )


def encoder_of(model: ModelConfig, data: DataConfig) -> ModelConfig:
    """Return which network a study pretrains on `data`, where it was asked for `model`.

    A short name, such as ``resnet18``, has the small-image stem up to `SMALL_IMAGE` pixels.

    Raises:
        InputError: It cannot be pretrained, or something is asked for that has no meaning here.
    """
    if model.weights not in ("default", "none"):
        raise InputError(f"--weights {model.weights}: simclr-pretrain begins with random values; leave it out.")
    if data.augment != "none":
        raise InputError(f"--augment {data.augment}: simclr-pretrain makes views of its own; leave it out.")
    if data.label_fraction != 1:
        raise InputError(
            f"--label-fraction {data.label_fraction:g}: labels train nothing in simclr-pretrain; leave it out."
        )
    size = model.image_size or usual_size(data.dataset)
    plain = PAPER_BACKBONES.get(model.backbone)
    prefix = PREFIX if size <= SMALL_IMAGE else "torchvision:"
    backbone = f"{prefix}{plain}" if plain is not None else model.backbone
    if backbone.removeprefix(PREFIX).removeprefix("torchvision:") not in resnets():
        raise InputError(
            f"--backbone {model.backbone}: SimCLR pretrains torchvision's ResNets; give torchvision:NAME or"
            f" {PREFIX}NAME with one of {', '.join(resnets())}."
        )
    return dataclasses.replace(model, backbone=backbone, weights="none", image_size=size)


def with_stored_images(model: ModelConfig) -> ModelConfig:
    """Return `model` with the size at which its images are kept: views are cut from more than what is looked at."""
    assert model.image_size is not None
    return dataclasses.replace(model, geometry=stored_geometry(model.image_size))


def _as_result(epoch: PretrainEpoch) -> EpochResult:
    assert epoch.knn_accuracy is not None
    return EpochResult(
        epoch=epoch.epoch,
        val_accuracy=epoch.knn_accuracy,
        train_loss=epoch.loss,
        learning_rate=epoch.learning_rate,
        seconds=epoch.seconds,
        images_per_second=epoch.images_per_second,
        extra={"top1": epoch.top1, "alignment": epoch.alignment, "uniformity": epoch.uniformity},
    )
