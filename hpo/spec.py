"""What a study is (StudySpec: its identity, stored once) and how it is run this time (RunOptions)."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

import search_spaces
from hpo.choices import RetrainOn, Sampler
from hpo.errors import UsageError
from search_spaces import SearchSpace
from trainables.config import (
    DEFAULT_CACHE_BYTES,
    DataConfig,
    MachineConfig,
    ModelConfig,
    SplitSeeds,
    TrainableConfig,
    TrialConfig,
)
from trainables.seeds import stream
from trainables.trainable import FINETUNE, reads_test

SCHEMA_VERSION = 2
"""Version of the specifications in ledgers; hpo/ledger/migrations.py reads the earlier ones."""

GRACE_PERIOD = 2
"""Epochs before ASHA may stop a trial: rungs at 2, 8 and 32 of 50 epochs. With the reduction factor it was chosen by
replays against real trainings (docs/performance.md)."""
REDUCTION_FACTOR = 4.0
"""ASHA lets the best quarter of a rung continue, as Li et al. (2020), "A System for Massively Parallel Hyperparameter
Tuning", do."""

_DERIVED = ("schema_version", "offset_seeds", "data.split_seeds")
"""What follows from the rest of a specification and from the version of hpo that wrote it."""
_LOOKED_UP = (
    *("model.weights_name", "model.weights_sha256", "model.code_sha256", "model.geometry"),
    *("data.train_sha256", "data.test_sha256"),
)
"""What hpo 0.1.0 did not look up."""


class SearchConfig(BaseModel):
    """How a study searches: which configurations it proposes and which it stops early."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: dict[str, Any]
    """The search space, in the structure of its TOML file."""
    sampler: Sampler = "tpe"
    asha: bool = True
    grace_period: int = GRACE_PERIOD
    """Epochs that every trial may train before ASHA compares it."""
    reduction_factor: float = REDUCTION_FACTOR
    """One in so many trials of a rung continues to the next."""


class StudySpec(BaseModel):
    """Everything that decides a study's numbers; two studies of the same specification are the same study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    data: DataConfig
    model: ModelConfig
    search: SearchConfig
    seed: int
    """Every random stream of the study is a named child of it (`trainables.seeds`)."""
    trainable: str = FINETUNE
    """What a trial runs: a name in `trainables.trainable.BUILT_IN`, or ``package.module:function``."""
    trainable_sha256: str | None = None
    """Digest of the file of a user's own trainable; None: it is this project's, or in no file."""
    offset_seeds: bool = False
    """Whether trial n of seed s is seeded with s * 1,000,003 + n, as in studies of hpo 0.1.0."""


@dataclass(frozen=True)
class NewStudy:
    """A study that can be created."""

    spec: StudySpec
    splits: dict[str, Any]
    """The summary of its splits."""
    listing: str
    """Which image is in which split, as CSV."""
    findings: tuple[str, ...] = ()
    """What there was among its images, a line each, for the user to read."""
    trials: int | None = None
    """The number of trials that it is to reach; None: what the run's options say."""


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
    nice: int = 0
    """Niceness of the processes that train, 0 to 19."""
    max_failures: int = 2
    """How often a trial that raised is started again from its checkpoint before it is recorded as FAIL."""
    retrain: bool = True
    retrain_on: RetrainOn = "train+val"
    """What the final model learns from."""


def search_over(
    space: SearchSpace, *, sampler: Sampler, asha: bool, grace_period: int | None, reduction_factor: float | None
) -> SearchConfig:
    """Return how to search a space; None leaves the choice here.

    Raises:
        UsageError: ASHA cannot work so.
    """
    longest = space.max_epochs
    grace = grace_period if grace_period is not None else min(GRACE_PERIOD, longest)
    if asha and grace > longest:
        raise UsageError(
            f"--grace-period {grace}: the search space's longest trial has {longest} epochs; lower one or raise the"
            " other, or say --no-asha."
        )
    if reduction_factor is not None and not reduction_factor > 1:
        raise UsageError(f"--reduction-factor must be above 1, but is {reduction_factor:g}.")
    return SearchConfig(
        space=search_spaces.to_dict(space),
        sampler=sampler,
        asha=asha,
        grace_period=grace,
        reduction_factor=reduction_factor or REDUCTION_FACTOR,
    )


def trials_of(search: SearchConfig, trainable: str, asked: int | None) -> int:
    """Return the number of trials that a study is to reach: what was asked for, else the size of its grid.

    Raises:
        UsageError: Its grid has fewer; or it is no grid, and nothing was asked for or its trials read held-out test.
        search_spaces.SpaceError: Its space is no grid.
    """
    if search.sampler != "grid":
        if reads_test(trainable):
            raise UsageError(
                f"--trainable {trainable}: its trials read held-out test, so that no sampler may choose by them; say"
                " --sampler grid."
            )
        if asked is None:
            raise UsageError(
                "--trials is missing: how many trials the study is to reach; a grid alone has its own size."
            )
        return asked
    space = search_spaces.from_dict(search.space, "the search space", trainable=trainable)
    size = len(search_spaces.grid(space))
    if asked is not None and asked > size:
        raise UsageError(
            f"--trials {asked}: the grid has {size} configurations; give {size} at most, or leave --trials out."
        )
    return asked or size


def split_seeds(seed: int) -> SplitSeeds:
    """Return the seeds of a study's splits."""
    return SplitSeeds(
        validation=stream(seed, "validation split"), labels=stream(seed, "labels"), test=stream(seed, "test split")
    )


def trial_seed(spec: StudySpec, number: int) -> int:
    """Return the seed of a study's trial `number`."""
    return spec.seed * 1_000_003 + number if spec.offset_seeds else stream(spec.seed, "trial", number)


def differences(recorded: StudySpec, asked: StudySpec) -> list[str]:
    """Return one line for each field in which `asked` differs from the specification that a study recorded.

    Fields that an earlier version did not record are left out.
    """
    old, new = _flat(recorded.model_dump()), _flat(asked.model_dump())
    left_out = (*_DERIVED, *(name for name in _LOOKED_UP if name in old and old[name] is None))
    return [
        f"{name}: the study has {_shown(old.get(name))}, this run asks for {_shown(new.get(name))}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name) and not f"{name}.".startswith(tuple(f"{one}." for one in left_out))
    ]


def trial_config(
    spec: StudySpec, options: RunOptions, params: dict[str, Any], seed: int, threads: int, micro_batch: int | None
) -> TrialConfig:
    """Return what fine-tuning with the sampled `params` trains."""
    machine = _machine(options, threads, micro_batch)
    return TrialConfig(data=spec.data, model=spec.model, seed=seed, machine=machine, **params)


def trainable_config(
    spec: StudySpec, options: RunOptions, params: dict[str, Any], seed: int, threads: int, micro_batch: int | None
) -> TrainableConfig:
    """Return what a study's trainable is given in a trial with the sampled `params`."""
    machine = _machine(options, threads, micro_batch)
    return TrainableConfig(data=spec.data, model=spec.model, params=params, seed=seed, machine=machine)


def _machine(options: RunOptions, threads: int, micro_batch: int | None) -> MachineConfig:
    return MachineConfig(
        data_dir=options.data_dir,
        cache_bytes=options.cache_bytes,
        threads=threads,
        nice=options.nice,
        micro_batch=micro_batch,
    )


def _flat(document: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested tables; keys become paths, such as ``search.space.parameters.batch_size``."""
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
