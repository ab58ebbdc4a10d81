"""A study from the command line's options to its summary: check everything, then create, run and retrain."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

import search_spaces
from hpo import ledger as ledgers
from hpo.errors import UsageError
from hpo.export import replace_text, write_study_files
from hpo.interrupts import stoppable
from hpo.ledger import Ledger, summarise
from hpo.lock import only_writer
from hpo.paths import StudyPaths
from hpo.placement import place
from hpo.preflight import readable
from hpo.progress import Progress
from hpo.records import count_states
from hpo.retrain import RetrainOn, retrain
from hpo.session import ray_session
from hpo.spec import GRACE_PERIOD, REDUCTION_FACTOR, RunOptions, Sampler, StudySpec
from hpo.study import run_trials
from trainables import backbones, datasets, fetch, splits
from trainables.config import FREEZE_MODES, Augment, DataConfig, FreezeMode, HeadKind, ModelConfig, Precision
from trainables.weights import is_file_spec

logger = logging.getLogger(__name__)


class Asked(BaseModel):
    """What ``hpo run`` was asked for, before it is checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    dataset: str
    weights: str
    space: Path | None
    head: HeadKind
    augment: Augment
    image_size: int | None
    val_fraction: float
    label_fraction: float
    skip_bad_images: bool
    sampler: Sampler
    asha: bool
    grace_period: int | None
    reduction_factor: float | None
    precision: Precision
    seed: int


def start(asked: Asked, options: RunOptions, paths: StudyPaths, url: str) -> dict[str, Any]:
    """Run a new study, or go on with the one of that name and specification, and return its summary.

    Raises:
        UsageError, trainables.InputError, search_spaces.SpaceError: Something that was asked for cannot be used;
            nothing was created.
        InterruptedStudy: The user stopped it.
    """
    spec, recorded, listing = _checked(asked, options)
    paths.folder.mkdir(parents=True, exist_ok=True)
    try:
        with only_writer(paths.lock, paths.name, url) as hold:
            ledger = ledgers.create(url, paths.name, spec, options, recorded)
            ledger.hold = hold
            replace_text(paths.splits, listing)
            return _go(ledger, options, paths)
    finally:
        _remove_if_unused(paths)


def resume(ledger: Ledger, trials: int | None, paths: StudyPaths, url: str) -> dict[str, Any]:
    """Go on with a study as it was run last, with its target raised to `trials` where that is given.

    Raises:
        UsageError: `trials` is lower than what the study has.
        InterruptedStudy: The user stopped it.
    """
    options = ledger.run_options.model_copy(update={"trials": trials} if trials is not None else {})
    if trials is not None and trials < ledger.n_trials:
        raise UsageError(f"study {ledger.name} has {ledger.n_trials} trials already; --trials can only raise that.")
    paths.folder.mkdir(parents=True, exist_ok=True)
    with only_writer(paths.lock, ledger.name, url) as hold:
        ledger.hold = hold
        ledger.run_options = options
        return _go(ledger, options, paths)


def retrain_again(
    ledger: Ledger, paths: StudyPaths, url: str, *, seeds: int, top: int, on: RetrainOn
) -> dict[str, Any]:
    """Retrain a study's best configuration once more, and return the study's summary."""
    begun = time.monotonic()
    paths.folder.mkdir(parents=True, exist_ok=True)
    with (
        only_writer(paths.lock, ledger.name, url),
        stoppable(f"hpo retrain {ledger.name}"),
        ray_session(ledger.run_options.address) as nodes,
    ):
        retrain(ledger, paths, place(ledger.run_options, nodes), seeds=seeds, top=top, on=on)
    return summarise(ledger, time.monotonic() - begun)


def _go(ledger: Ledger, options: RunOptions, paths: StudyPaths) -> dict[str, Any]:
    begun = time.monotonic()
    unfinished = ledger.n_trials < options.trials or count_states(ledger.records())["RUNNING"] > 0
    stale = ledger.final is None or unfinished
    if not unfinished:
        logger.info("study %s is complete: it has its %d trials; --trials raises that", ledger.name, ledger.n_trials)
    if unfinished or (options.retrain and stale):
        with stoppable(f"hpo resume {ledger.name}") as interruption, ray_session(options.address) as nodes:
            placement = place(options, nodes)
            with Progress(ledger.name, options.trials, ledger.records()) as progress:
                run_trials(ledger, options, paths, placement, progress, interruption)
            write_study_files(ledger, paths)
            if options.retrain:
                retrain(ledger, paths, placement)
    return summarise(ledger, time.monotonic() - begun)


def _checked(asked: Asked, options: RunOptions) -> tuple[StudySpec, dict[str, Any], str]:
    """Check everything that was asked for; return the specification, the splits' summary and their listing."""
    backbones.architecture_of(asked.backbone)
    space = search_spaces.builtin(asked.backbone, asked.weights)
    if asked.space is not None:
        space = search_spaces.load(asked.space, space)
    weights, digest = _identified(asked.weights)
    for mode in _freeze_modes(space):
        model = ModelConfig(
            backbone=asked.backbone,
            weights=weights,
            head=asked.head,
            freeze_mode=mode,
            image_size=asked.image_size,
        )
        backbones.check(model, options.data_dir)
    data = DataConfig(
        dataset=_absolute(asked.dataset),
        data_dir=options.data_dir,
        val_fraction=asked.val_fraction,
        label_fraction=asked.label_fraction,
        split_seed=asked.seed,
    )
    data = readable(data, backbones.geometry(asked.backbone, asked.image_size), skip_bad=asked.skip_bad_images)
    images = datasets.training_images(data)
    divided = splits.split(images, data)
    grace = asked.grace_period if asked.grace_period is not None else min(GRACE_PERIOD, space.max_epochs)
    if asked.asha and grace > space.max_epochs:
        raise UsageError(
            f"--grace-period {grace}: the search space's longest trial has {space.max_epochs} epochs; lower one or"
            " raise the other, or say --no-asha."
        )
    spec = StudySpec(
        backbone=asked.backbone,
        weights=weights,
        weights_sha256=digest,
        head=asked.head,
        dataset=data.dataset,
        image_size=asked.image_size,
        augment=asked.augment,
        val_fraction=asked.val_fraction,
        label_fraction=asked.label_fraction,
        skipped_images=data.skipped,
        splits_sha256=divided.fingerprint,
        sampler=asked.sampler,
        asha=asked.asha,
        grace_period=grace,
        reduction_factor=asked.reduction_factor or REDUCTION_FACTOR,
        precision=asked.precision,
        seed=asked.seed,
        space=search_spaces.to_dict(space),
    )
    return spec, splits.summary(images, divided), splits.listing(images, divided)


def _freeze_modes(space: search_spaces.SearchSpace) -> list[FreezeMode]:
    """One mode is enough to check the weights; without weights, each must be one that trains everything."""
    drawn = {
        choice
        for alternative in space.parameters["freeze_mode"]
        for choice in getattr(alternative.distribution, "choices", ())
    }
    frozen_first = [mode for mode in reversed(FREEZE_MODES) if mode in drawn]
    return frozen_first[:1]


def _identified(weights: str) -> tuple[str, str | None]:
    """Return the weights' name, or the file's absolute path and its SHA-256."""
    if not is_file_spec(weights):
        return weights, None
    path = Path(weights).expanduser().absolute()
    return str(path), fetch.sha256(path) if path.is_file() else None


def _absolute(dataset: str) -> str:
    kind, colon, folder = dataset.partition(":")
    return f"{kind}:{Path(folder).expanduser().absolute()}" if kind == "imagefolder" and colon else dataset


def _remove_if_unused(paths: StudyPaths) -> None:
    """Leave no folder behind where the study could not be created."""
    names = [study.name for study in paths.folder.iterdir()] if paths.folder.exists() else []
    if set(names) <= {paths.lock.name}:
        shutil.rmtree(paths.folder, ignore_errors=True)
