"""What a study is (StudySpec: its identity, stored once) and how it is run this time (RunOptions)."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from trainables.config import DEFAULT_CACHE_BYTES, Augment, DataConfig, HeadKind, ModelConfig, Precision, TrialConfig

Sampler = Literal["tpe", "random"]

GRACE_PERIOD = 2
"""Epochs before ASHA may stop a trial: rungs at 2, 8 and 32 of 50 epochs. With the reduction factor it was chosen by
replays against real trainings (docs/performance.md)."""
REDUCTION_FACTOR = 4.0
"""ASHA lets the best quarter of a rung go on, as Li et al. (2020), "A System for Massively Parallel Hyperparameter
Tuning", do."""


class StudySpec(BaseModel):
    """Everything that decides a study's numbers; two studies of the same specification are the same study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    weights: str
    weights_sha256: str | None
    """Of the weights file, where `weights` is one; None: published or no weights."""
    head: HeadKind
    dataset: str
    image_size: int | None
    """Side of the square that the network sees, in pixels; None: what the weights' transform gives."""
    augment: Augment
    val_fraction: float
    label_fraction: float
    skipped_images: tuple[str, ...] = ()
    """Names of images that could not be read and were left out."""
    splits_sha256: str
    """Of the training and validation images, in their order."""
    sampler: Sampler
    asha: bool
    grace_period: int
    """Epochs that every trial may train before ASHA compares it."""
    reduction_factor: float
    """One in so many trials of a rung goes on to the next."""
    precision: Precision
    seed: int
    space: dict[str, Any]
    """The search space, in the structure of its TOML file."""


@dataclass(frozen=True)
class NewStudy:
    """A study that can be created."""

    spec: StudySpec
    splits: dict[str, Any]
    """The summary of its splits."""
    listing: str
    """Which image is in which split, as CSV."""


class RunOptions(BaseModel):
    """How a study is run: where, on how much, for how long. None of it changes what a trial's numbers are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int
    """The number of trials that the study is to reach."""
    data_dir: str | None = None
    """None: each machine's own default."""
    cache_bytes: int = DEFAULT_CACHE_BYTES
    """What each machine's decoded images and features may take."""
    address: str = "local"
    """``local``: a Ray of its own; ``auto`` or HOST:PORT: a running cluster."""
    checkpoints: str | None = None
    """A folder or fsspec URL; None: the study's own folder, or each node's data folder where nodes do not share it."""
    cpus_per_trial: float | None = None
    """None: a GPU's share of its machine's CPUs, or one CPU where there is no GPU."""
    gpus_per_trial: float | None = None
    """None: one where the cluster has GPUs, else none."""
    concurrency: int | None = None
    """None: as many trials at a time as the resources allow."""
    timeout_s: float | None = None
    """Seconds after which no epoch is started any more; None: no limit."""
    max_failures: int = 2
    """How often a trial that raised is started again from its checkpoint before it is recorded as FAIL."""
    retrain: bool = True


def differences(recorded: StudySpec, asked: StudySpec) -> list[str]:
    """Return one line for each field in which `asked` is not the specification that a study recorded."""
    old, new = _flat(recorded.model_dump()), _flat(asked.model_dump())
    return [
        f"{name}: the study has {_shown(old.get(name))}, this run asks for {_shown(new.get(name))}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]


def trial_config(
    spec: StudySpec,
    options: RunOptions,
    params: dict[str, Any],
    number: int,
    threads: int,
    micro_batch: int | None,
) -> TrialConfig:
    """Return what trial `number` with the sampled `params` trains; its seed follows from the study's and its number."""
    return TrialConfig(
        data=data_config(spec, options),
        model=ModelConfig(
            backbone=spec.backbone,
            weights=spec.weights,
            head=spec.head,
            freeze_mode=params["freeze_mode"],
            image_size=spec.image_size,
        ),
        learning_rate=params["learning_rate"],
        batch_size=params["batch_size"],
        epochs=params["epochs"],
        augment=spec.augment,
        precision=spec.precision,
        seed=spec.seed * 1_000_003 + number,
        micro_batch=micro_batch,
        threads=threads,
    )


def data_config(spec: StudySpec, options: RunOptions) -> DataConfig:
    """Return the study's dataset and splits, to be found where `options` say on the machine that reads it."""
    return DataConfig(
        dataset=spec.dataset,
        data_dir=options.data_dir,
        cache_bytes=options.cache_bytes,
        val_fraction=spec.val_fraction,
        label_fraction=spec.label_fraction,
        split_seed=spec.seed,
        skipped=spec.skipped_images,
        fingerprint=spec.splits_sha256,
    )


def _flat(document: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Name what lies deeper by its way there, ``space.parameters.batch_size``."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{name}.")
        else:
            flat[f"{above}{name}"] = value
    return flat


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
