"""Which studies an experiment is: one per backbone, protocol and seed, whose trials are exactly its runs.

Configurations that differ in `epochs` alone are one run that is read at several epochs: the schedule of the learning
rate looks at validation and does not know how long training will last.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import search_spaces
from hpo.paper.experiment import SOUND, Experiment, Point, Protocol
from hpo.spec import SearchConfig
from search_spaces import SearchSpace
from trainables.published.protocol import Protocol as Switches
from trainables.published.protocol import reads_text


@dataclass(frozen=True)
class Run:
    """One training, and the epochs after which held-out test is read."""

    point: Point
    """Its epochs are the run's own: the most that it is read at."""
    reads: tuple[int, ...]
    """Rising; the last is the run's own."""

    @property
    def points(self) -> tuple[Point, ...]:
        """The configurations that it measures."""
        one = self.point
        return tuple(
            Point(one.backbone, one.learning_rate, one.batch_size, one.freeze_mode, epochs) for epochs in self.reads
        )

    @property
    def params(self) -> dict[str, float | int | str]:
        """The parameters of its trial that distinguish it."""
        return {
            "learning_rate": self.point.learning_rate,
            "batch_size": self.point.batch_size,
            "epochs": self.point.epochs,
            "freeze_mode": self.point.freeze_mode,
            "reads": reads_text(self.reads),
        }


@dataclass(frozen=True)
class PlannedStudy:
    """The runs of one backbone by one protocol with one seed."""

    name: str
    backbone: str
    protocol: Protocol
    seed: int
    runs: tuple[Run, ...]

    @property
    def epochs(self) -> int:
        """What all of its runs train."""
        return sum(run.point.epochs for run in self.runs)

    @property
    def search(self) -> SearchConfig:
        """The search whose grid begins with the runs; as many trials as there are runs take no other."""
        params = [run.params for run in self.runs]
        choices: dict[str, Any] = {
            name: {"choices": list(dict.fromkeys(one[name] for one in params))} for name in params[0]
        }
        choices["protocol"] = {"choices": [str(switches(self.protocol))]}
        return SearchConfig(space={"parameters": choices, "enqueue": params}, sampler="grid", asha=False)


def switches(protocol: Protocol) -> Switches:
    """Return what of a protocol a trial decides by itself; the head is the network's."""
    return Switches(
        frozen_random_layer=protocol.frozen_random_layer,
        training_mode=protocol.evaluation_mode == "train",
        unseeded_split=protocol.split == "unseeded",
        last_epoch=protocol.measured == "last epoch",
    )


def plan(
    experiment: Experiment,
    protocols: Sequence[Protocol],
    *,
    study: str,
    dataset: str,
    seeds: int,
    weights: Mapping[str, str],
    points: Sequence[Point] | None = None,
) -> list[PlannedStudy]:
    """Return the studies that an experiment is.

    Args:
        experiment: At the scale, and with the backbones, that are to be run.
        protocols: Those by which it is run.
        study: Begins the studies' names.
        dataset: The dataset's name, which is part of them.
        seeds: How often each run is repeated with a seed of its own.
        weights: By backbone; one without weights has nothing to freeze, and such runs are left out.
        points: The configurations that are measured; None: all of the experiment.
    """
    wanted = experiment.points() if points is None else tuple(points)
    runs: dict[str, list[Run]] = {}
    for point, reads in experiment.runs().items():
        taken = tuple(one.epochs for one in Run(point, reads).points if one in wanted)
        if not taken:
            continue
        if weights.get(point.backbone) == "none" and point.freeze_mode != "none":
            continue
        own = Point(point.backbone, point.learning_rate, point.batch_size, point.freeze_mode, taken[-1])
        runs.setdefault(point.backbone, []).append(Run(own, taken))
    return [
        PlannedStudy(
            _name(experiment, protocol, study, backbone, dataset, seed), backbone, protocol, seed, tuple(runs[backbone])
        )
        for protocol in protocols
        for backbone in runs
        for seed in range(seeds)
    ]


def ablated(experiment: Experiment) -> list[Protocol]:
    """Return the published protocol, it with each of its deviations taken back alone, and the sound one."""
    published = experiment.protocol
    flips = [published.model_copy(update={name: getattr(SOUND, name)}) for name in published.differs_in(SOUND)]
    return list(dict.fromkeys((published, *flips, SOUND)))


def may_differ(protocol: Protocol, experiment: Experiment, point: Point) -> bool:
    """Return whether a protocol may train a configuration otherwise than the published one."""
    return point.freeze_mode != "none" or protocol.differs_in(experiment.protocol) != ("frozen_random_layer",)


def main_points(experiment: Experiment, backbone: str) -> tuple[Point, ...]:
    """Return a backbone's configurations in the figures that set fine-tuning against transfer learning."""
    figures = [one for one in experiment.figures if one.varies == "freeze_mode"]
    return tuple(dict.fromkeys(bar.point for one in figures for bar in experiment.bars(one, [backbone])))


def _name(experiment: Experiment, protocol: Protocol, study: str, backbone: str, dataset: str, seed: int) -> str:
    """Return a study's name: STUDY-BACKBONE-DATASET, then what is not the sound way and the first seed."""
    parts = [study, backbone.replace("/", "-"), dataset, *_deviation(experiment, protocol)]
    return "-".join([*parts, *([f"seed{seed}"] if seed else [])])


def _deviation(experiment: Experiment, protocol: Protocol) -> Iterator[str]:
    if protocol == SOUND:
        return
    yield "as-published"
    for name in experiment.protocol.differs_in(protocol):
        yield f"but-{name.replace('_', '-')}"


def scaled_space(space: SearchSpace, factor: float) -> SearchSpace:
    """Return a search space whose epochs are multiplied by `factor`, at least 1, where it is not 1."""
    if factor == 1:
        return space

    def scaled(epochs: float) -> int:
        return max(1, math.floor(epochs * factor + 0.5))

    document = search_spaces.to_dict(space)
    found = document["parameters"]["epochs"]
    for alternative in found if isinstance(found, list) else [found]:
        if "choices" in alternative:
            alternative["choices"] = list(dict.fromkeys(map(scaled, alternative["choices"])))
        else:
            # Without a step, since scaled entries may lie between the steps.
            alternative.pop("step", None)
            alternative |= {"low": scaled(alternative["low"]), "high": scaled(alternative["high"])}
    for entry in document["enqueue"]:
        if "epochs" in entry:
            entry["epochs"] = scaled(entry["epochs"])
    return search_spaces.from_dict(document, "the scaled search space")
