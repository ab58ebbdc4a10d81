"""A paper's experiments, run again: a plan, its studies, what a search finds beside them, and a page."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from hpo.api.options import DataOptions, Help
from hpo.errors import UsageError
from hpo.paths import check_study_name, dataset_name
from trainables.config import Exif, ModelConfig, Precision

if TYPE_CHECKING:
    from hpo.paper.experiment import Experiment, Protocol
    from hpo.paper.runs.plan import PlannedStudy

logger = logging.getLogger(__name__)

MOST_SEEDS = 100
"""Seeds whose studies the page looks for."""


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """What of an experiment is run, and how."""

    dataset: Annotated[str | None, Help("Another dataset than the experiment's.")] = None
    image_size: Annotated[int | None, Help("Side of the networks' input, in pixels.", least=1)] = None
    precision: Annotated[Precision, Help("What the networks compute in.")] = "auto"
    skip_bad_images: Annotated[bool, Help("Leave images out that cannot be read.")] = False
    exif: Annotated[Exif | None, Help("Turn images as their EXIF orientation says; default for imagefolder: turn.")] = (
        None
    )
    scale: Annotated[float, Help("Multiplies all epochs, which stay 1 at least.")] = 1.0
    seeds: Annotated[int, Help("How often each run is repeated with a seed of its own.", least=1, most=MOST_SEEDS)] = 1
    trials: Annotated[
        int | None,
        Help("Of the study of each backbone that follows; 0: none; default: what the experiment says.", least=0),
    ] = None
    as_published: Annotated[bool, Help("Build and judge the networks as the paper did, its flaws included.")] = False
    ablate: Annotated[
        str | None, Help("A backbone: what each of the paper's flaws costs it, one taken back at a time.")
    ] = None
    study: Annotated[str | None, Help("Begins the studies' names.", least=None)] = None


@dataclass(frozen=True)
class Paper:
    """An experiment as it was asked for."""

    experiment: "Experiment"
    """At its scale, with the backbones that are run."""
    options: PaperOptions
    weights: Mapping[str, str]
    """By backbone."""
    planned: "tuple[PlannedStudy, ...]"

    @property
    def dataset(self) -> str:
        """Which images."""
        return self.options.dataset or self.experiment.dataset

    @property
    def study(self) -> str:
        """What the studies' names begin with."""
        return self.options.study or self.experiment.name

    @property
    def backbones(self) -> tuple[str, ...]:
        """Those that are run."""
        return tuple(dict.fromkeys(one.backbone for one in self.planned))

    @property
    def trials(self) -> int:
        """Of the study of each backbone; 0: there is none."""
        if self.options.ablate is not None:
            return 0
        return self.experiment.study_trials if self.options.trials is None else self.options.trials

    @property
    def runs(self) -> int:
        """Trainings of the plan."""
        return sum(len(one.runs) for one in self.planned)

    @property
    def points(self) -> int:
        """Configurations that they measure, each seed and protocol counted."""
        return sum(len(run.points) for one in self.planned for run in one.runs)

    def model(self, backbone: str, protocol: "Protocol | None" = None) -> ModelConfig:
        """Return the network of a backbone, as it is asked for; None: with the usual head."""
        return ModelConfig(
            backbone=backbone,
            weights=self.weights[backbone],
            head=protocol.head if protocol is not None else "projection",
            image_size=self.options.image_size,
            precision=self.options.precision,
        )

    def search_name(self, backbone: str) -> str:
        """Return the name of the study that searches where the paper had a grid."""
        return f"{self.study}-{backbone.replace('/', '-')}-{dataset_name(self.dataset)}-search"

    @property
    def data(self) -> DataOptions:
        """Which images, and how they are split."""
        own = self.options
        return DataOptions(dataset=self.dataset, skip_bad_images=own.skip_bad_images, exif=own.exif)


def plan_paper(
    experiment: str | None, *, backbones: Sequence[str] = (), weights: Sequence[str] = (), options: PaperOptions
) -> Paper:
    """Return an experiment's plan: which studies it is.

    Args:
        experiment: A packaged experiment's name or a TOML file; None: Jimenez & Hale (2023).
        backbones: Those that are run; none: all of the experiment.
        weights: ``WEIGHTS`` for all backbones, or ``BACKBONE=WEIGHTS`` for one; what is not named has that of the
            experiment, else its default. What has a slash before its equals sign is a path.
        options: What is run of it, and how.

    Raises:
        UsageError: The experiment cannot be used, has no such backbone, or a study's name is too long.
    """
    from hpo.paper.experiment import PAPER, SOUND, load
    from hpo.paper.runs.plan import plan

    if options.ablate is not None and (backbones or options.as_published or options.trials):
        raise UsageError("--ablate names its backbone and protocols: leave out --backbone, --as-published, --trials.")
    loaded = load(experiment or PAPER).scaled(options.scale)
    if options.ablate is not None:
        loaded = loaded.only([options.ablate])
    elif backbones:
        loaded = loaded.only(backbones)
    check_study_name(options.study or loaded.name)
    given = _weights(loaded, weights)
    paper = Paper(loaded, options, given, ())
    if options.ablate is not None:
        if loaded.protocol == SOUND:
            raise UsageError(f"--ablate {options.ablate}: {loaded.name} has no deviation that could be taken back.")
        planned = ablation(paper, options.seeds)
        if not planned:
            raise UsageError(f"--ablate {options.ablate}: {loaded.name} has no figure that varies its freeze mode.")
    else:
        protocol = loaded.protocol if options.as_published else SOUND
        planned = plan(
            loaded,
            [protocol],
            study=paper.study,
            dataset=dataset_name(paper.dataset),
            seeds=options.seeds,
            weights=given,
        )
    for backbone in dict.fromkeys(one.backbone for one in planned):
        if given[backbone] == "none" and any(
            p.backbone == backbone and p.freeze_mode != "none" for p in loaded.points()
        ):
            logger.info("%s: --weights none leaves nothing to freeze; transfer learning is left out", backbone)
    paper = dataclasses.replace(paper, planned=tuple(planned))
    _check_names(paper)
    return paper


def _check_names(paper: Paper) -> None:
    """See that all studies can have the names that they will have."""
    searches = [paper.search_name(one) for one in paper.backbones] if paper.trials else []
    for name in (*(one.name for one in paper.planned), *searches):
        try:
            check_study_name(name)
        except UsageError as error:
            raise UsageError(
                f"{error} Such names are --study, backbone, dataset and more; give a shorter --study, or rename the"
                " dataset's folder."
            ) from error


def ablation(paper: Paper, seeds: int) -> "list[PlannedStudy]":
    """Return the studies that take back each of the published deviations alone, at a backbone's main configurations."""
    from hpo.paper.runs.plan import ablated, main_points, may_differ, plan

    points = [point for one in paper.experiment.chosen or () for point in main_points(paper.experiment, one)]
    return [
        study
        for protocol in ablated(paper.experiment)
        for study in plan(
            paper.experiment,
            [protocol],
            study=f"{paper.study}-ablation",
            dataset=dataset_name(paper.dataset),
            seeds=seeds,
            weights=paper.weights,
            points=[point for point in points if may_differ(protocol, paper.experiment, point)],
        )
    ]


def _weights(experiment: "Experiment", given: Sequence[str]) -> dict[str, str]:
    """Return each backbone's weights: its own of the command line, else those of all there, else the paper's."""
    backbones, own, of_all = experiment.backbones, {}, None
    for one in given:
        name, separator, weights = one.partition("=")
        if separator and name in backbones:
            own[name] = weights
        # A file's path may hold an equals sign, too.
        elif separator and "/" not in name:
            raise UsageError(
                f"--weights {one}: {name} is no backbone of the experiment; they are {', '.join(backbones)}."
            )
        else:
            of_all = one
    return {name: own.get(name) or of_all or experiment.weights.get(name, "default") for name in backbones}
