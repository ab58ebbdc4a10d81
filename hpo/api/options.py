"""Options in groups, a frozen dataclass each, the same for Python and for the command line.

An annotation's `Help` is what ``--help`` shows; nothing heavy is imported before an option is used.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from hpo.choices import Sampler
from hpo.paths import StudyPaths, located_by, studies_dir
from trainables.config import DEFAULT_CACHE_BYTES, Augment, DataConfig, Exif, HeadKind, ModelConfig, Precision
from trainables.trainable import FINETUNE

if TYPE_CHECKING:
    from sqlalchemy import URL

    from hpo.spec import RunOptions, SearchConfig
    from search_spaces import SearchSpace


@dataclass(frozen=True)
class Help:
    """What an option is, and the range of its values."""

    text: str
    least: float | None = field(default=None, repr=False)
    most: float | None = field(default=None, repr=False)


DataDir = Annotated[
    str | None, Help("Datasets, weights, decoded images; default: $HPO_DATA_DIR, else hpo in the cache folder.")
]
Timeout = Annotated[float | None, Help("Start no epoch after this time: 90s, 45m, 8h, 1h30m.")]


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where studies are."""

    studies_dir: Annotated[Path | None, Help("Folder of all studies; default: $HPO_STUDIES_DIR, else ./studies.")] = (
        None
    )
    storage: Annotated[
        str | None, Help("Database of the studies, an SQLAlchemy URL; default: STUDIES_DIR/optuna.db.")
    ] = None

    @property
    def studies(self) -> Path:
        """The folder of all studies, absolute."""
        return studies_dir(self.studies_dir)

    @property
    def url(self) -> "URL":
        """The database's address.

        Raises:
            UsageError: It is none.
        """
        from hpo.addresses import database_url

        return database_url(self.studies, self.storage)

    def paths(self, study: str) -> StudyPaths:
        """Return where a study's files are."""
        return StudyPaths(self.studies, study, located_by(self.studies_dir, self.storage))


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which images, and how they are split and shown."""

    dataset: Annotated[str, Help("pets, fashion-mnist, cifar10, digits, or imagefolder:DIR.")] = "pets"
    val_fraction: Annotated[float, Help("Share of the training split that validates.")] = 0.25
    label_fraction: Annotated[float, Help("Share of the training labels that is kept.")] = 1.0
    augment: Annotated[Augment, Help("standard: random crop and flip.")] = "none"
    deduplicate: Annotated[bool, Help("Train on no copy of an image that validates or tests.")] = False
    skip_bad_images: Annotated[bool, Help("Leave images out that cannot be read.")] = False
    exif: Annotated[Exif | None, Help("Turn images as their EXIF orientation says; default for imagefolder: turn.")] = (
        None
    )

    @property
    def config(self) -> DataConfig:
        """The dataset, without what depends on its images and on the study."""
        looked_up = ("exif", "skip_bad_images")
        return DataConfig(**{name: value for name, value in vars(self).items() if name not in looked_up})


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which weights and head, and how the network computes."""

    weights: Annotated[
        str, Help("default, none, a published name, a file, or FILE#KEY for one of the state dicts in it.")
    ] = "default"
    geometry_of: Annotated[
        str | None,
        Help("For a weights file: the published weights or layout whose resize, crop and normalisation it takes."),
    ] = None
    head: Annotated[HeadKind, Help("What turns features into classes.")] = "projection"
    image_size: Annotated[int | None, Help("Side of the network's input, in pixels.", least=1)] = None
    precision: Annotated[Precision, Help("What the network computes in.")] = "auto"

    def config(self, backbone: str) -> ModelConfig:
        """Return the model of `backbone`, without what its weights decide."""
        return ModelConfig(
            backbone=backbone,
            **{name: value for name, value in vars(self).items() if name != "geometry_of"},
        )


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What is searched, and how."""

    trainable: Annotated[
        str, Help("What a trial runs: finetune, simclr-pretrain, or package.module:function of your own.")
    ] = FINETUNE
    space: Annotated[Path | None, Help("A search space of your own, a TOML file.")] = None
    sampler: Annotated[Sampler, Help("What proposes configurations; grid: each of the space once, in order.")] = "tpe"
    asha: Annotated[bool, Help("Whether ASHA stops the weak trials early.")] = True
    grace_period: Annotated[int | None, Help("Epochs before ASHA may stop a trial; default 2.", least=1)] = None
    reduction_factor: Annotated[float | None, Help("ASHA lets one in so many trials continue; default 4.")] = None

    def over(self, space: "SearchSpace") -> "SearchConfig":
        """Return how to search `space`.

        Raises:
            UsageError: ASHA cannot work so.
        """
        from hpo.spec import search_over

        return search_over(
            space,
            sampler=self.sampler,
            asha=self.asha,
            grace_period=self.grace_period,
            reduction_factor=self.reduction_factor,
        )


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where a study runs, on how much, for how long."""

    data_dir: DataDir = None
    cache_bytes: Annotated[int, Help("Gigabytes (2^30) for decoded images and features.")] = DEFAULT_CACHE_BYTES
    address: Annotated[str, Help("local, auto, or HOST:PORT of a Ray cluster.")] = "local"
    checkpoints: Annotated[
        str | None,
        Help(
            "Folder or fsspec URL for trials' checkpoints; default: the study's own folder, of nodes that do not share"
            " it their data folder."
        ),
    ] = None
    cpus_per_trial: Annotated[float | None, Help("CPUs of each trial.", least=0.1)] = None
    gpus_per_trial: Annotated[float | None, Help("GPUs of each trial; may be a share.", least=0.0)] = None
    concurrency: Annotated[int | None, Help("Trials at a time.", least=1)] = None
    timeout_s: Timeout = None
    nice: Annotated[int, Help("Niceness of the processes that train; 19 leaves others the CPUs.", least=0, most=19)] = 0
    max_failures: Annotated[
        int, Help("Start a trial that failed again so often before it counts as FAIL.", least=0)
    ] = 2
    retrain: Annotated[
        bool, Help("Whether the best configuration is retrained at the end, and looks at held-out test.")
    ] = True

    def options(self, trials: int) -> "RunOptions":
        """Return the options of a run that is to reach `trials` trials.

        Raises:
            UsageError: Checkpoints cannot be kept at the place that was given.
        """
        from hpo.machines.checkpoints import checked_place
        from hpo.spec import RunOptions

        given: dict[str, Any] = {**vars(self), "trials": trials}
        if self.data_dir is not None:
            given["data_dir"] = str(Path(self.data_dir).expanduser().absolute())
        if self.checkpoints is not None:
            given["checkpoints"] = checked_place(self.checkpoints)
        return RunOptions(**given)
