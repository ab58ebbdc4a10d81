"""Options of the command line in groups: a frozen dataclass each, which a command takes as one parameter.

`grouped` spreads a group over the command's signature, since typer knows no groups.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from hpo import paths as study_paths
from hpo.errors import UsageError
from trainables.config import DEFAULT_CACHE_BYTES, Augment, HeadKind, Precision

if TYPE_CHECKING:
    from sqlalchemy import URL

    from hpo.spec import RunOptions, SearchConfig
    from search_spaces import SearchSpace

T = TypeVar("T")

Sampler = Literal["tpe", "random"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DataDir = Annotated[
    str | None,
    typer.Option(help="Datasets, weights, decoded images; default: $HPO_DATA_DIR, else hpo in the cache folder."),
]


def grouped(command: Callable[..., T]) -> Callable[..., T]:
    """Return `command` with an option for each field of its parameters that are dataclasses."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _options(groups[parameter.name])
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))

    @functools.wraps(command)
    def spread(**given: Any) -> T:
        for name, group in groups.items():
            fields = {field.name: given.pop(field.name) for field in dataclasses.fields(group)}
            given[name] = group(**fields)
        return command(**given)

    # Typer reads both; typing.get_type_hints would follow __wrapped__ to the command's own.
    del spread.__wrapped__
    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    empty = inspect.Parameter.empty
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(group)
    ]


def parse_duration(text: str) -> float:
    """Return a time such as ``90s``, ``45m``, ``8h`` or ``1h30m`` in seconds.

    Raises:
        UsageError: It is no such time.
    """
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not text or match is None:
        raise UsageError(f"--timeout {text}: a time such as 90s, 45m, 8h or 1h30m is needed.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not total:
        raise UsageError(f"--timeout {text}: no trial could begin; a time such as 90s, 45m, 8h or 1h30m is needed.")
    return float(total)


Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        help="Start no epoch after this time: 90s, 45m, 8h, 1h30m.",
        parser=parse_duration,
        metavar="TIME",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Located:
    """Where studies are."""

    studies_dir: Annotated[
        Path | None, typer.Option(help="Folder of all studies; default: $HPO_STUDIES_DIR, else ./studies.")
    ] = None
    storage: Annotated[
        str | None,
        typer.Option(help="Database of the studies, an SQLAlchemy URL; default: STUDIES_DIR/optuna.db."),
    ] = None

    @property
    def studies(self) -> Path:
        """The folder of all studies, absolute."""
        return study_paths.studies_dir(self.studies_dir)

    @property
    def url(self) -> "URL":
        """The database's address.

        Raises:
            UsageError: It is none.
        """
        from hpo.addresses import database_url

        return database_url(self.studies, self.storage)

    def paths(self, study: str) -> study_paths.StudyPaths:
        """Return where a study's files are."""
        located_by = study_paths.located_by(self.studies_dir, self.storage)
        return study_paths.StudyPaths(self.studies, study, located_by)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which images, and how they are split and shown: the fields of `DataConfig`."""

    dataset: Annotated[str, typer.Option(help="pets, fashion-mnist, cifar10, digits, or imagefolder:DIR.")] = "pets"
    val_fraction: Annotated[float, typer.Option(help="Share of the training split that validates.")] = 0.25
    label_fraction: Annotated[float, typer.Option(help="Share of the training labels that is kept.")] = 1.0
    augment: Annotated[Augment, typer.Option(help="standard: random crop and flip.")] = "none"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which weights and head, and how the network computes: the fields of `ModelConfig`."""

    weights: Annotated[str, typer.Option(help="default, none, a published name, or a file.")] = "default"
    head: Annotated[HeadKind, typer.Option(help="What turns features into classes.")] = "projection"
    image_size: Annotated[int | None, typer.Option(min=1, help="Side of the network's input, in pixels.")] = None
    precision: Annotated[Precision, typer.Option(help="What the network computes in.")] = "auto"


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search."""

    sampler: Annotated[Sampler, typer.Option(help="What proposes configurations.")] = "tpe"
    no_asha: Annotated[bool, typer.Option("--no-asha", help="Stop no trial early.")] = False
    grace_period: Annotated[int | None, typer.Option(min=1, help="Epochs before ASHA may stop a trial; default 2.")] = (
        None
    )
    reduction_factor: Annotated[
        float | None, typer.Option(help="ASHA lets one in so many trials continue; default 4.")
    ] = None

    def over(self, space: "SearchSpace") -> "SearchConfig":
        """Return how to search `space`.

        Raises:
            UsageError: ASHA cannot work so.
        """
        from hpo.spec import search_over

        return search_over(
            space,
            sampler=self.sampler,
            asha=not self.no_asha,
            grace_period=self.grace_period,
            reduction_factor=self.reduction_factor,
        )


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where a study runs, on how much, for how long."""

    data_dir: DataDir = None
    cache_bytes: Annotated[
        int,
        typer.Option(
            "--cache-size",
            help="Gigabytes (2^30) for decoded images and features.",
            parser=lambda text: int(float(text) * 2**30),
            metavar="GB",
            show_default="20",
        ),
    ] = DEFAULT_CACHE_BYTES
    address: Annotated[str, typer.Option(help="local, auto, or HOST:PORT of a Ray cluster.")] = "local"
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Folder or fsspec URL for trials' checkpoints; default: the study's own folder, of nodes that do not"
            " share it their data folder."
        ),
    ] = None
    cpus_per_trial: Annotated[float | None, typer.Option(min=0.1, help="CPUs of each trial.")] = None
    gpus_per_trial: Annotated[float | None, typer.Option(min=0.0, help="GPUs of each trial; may be a share.")] = None
    concurrency: Annotated[int | None, typer.Option(min=1, help="Trials at a time.")] = None
    timeout_s: Timeout = None
    nice: Annotated[
        int, typer.Option(min=0, max=19, help="Niceness of the processes that train; 19 leaves others the CPUs.")
    ] = 0
    max_failures: Annotated[
        int, typer.Option(min=0, help="Start a trial that failed again so often before it counts as FAIL.")
    ] = 2
    no_retrain: Annotated[bool, typer.Option("--no-retrain", help="Leave the held-out test alone.")] = False

    def options(self, trials: int) -> "RunOptions":
        """Return the options of a run that is to reach `trials` trials.

        Raises:
            UsageError: Checkpoints cannot be kept at the place that was given.
        """
        from hpo.machines.checkpoints import checked_place
        from hpo.spec import RunOptions

        given = {**vars(self), "trials": trials, "retrain": not self.no_retrain}
        del given["no_retrain"]
        if self.data_dir is not None:
            given["data_dir"] = str(Path(self.data_dir).expanduser().absolute())
        if self.checkpoints is not None:
            given["checkpoints"] = checked_place(self.checkpoints)
        return RunOptions(**given)
