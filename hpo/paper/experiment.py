"""An experiment of a paper as data: its grid, the figures that it published, its conclusions and the test of each.

It is a TOML file; the paper's own lies beside this module, and docs/paper.md says how to write one for another paper.
"""

import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpo.errors import UsageError
from search_spaces.files import decoded
from trainables.config import FreezeMode, HeadKind

PAPER = "jimenez-hale-2023"
"""The packaged experiment."""

Parameter = Literal["learning_rate", "batch_size", "freeze_mode", "epochs"]
Level = int | float | str
"""A value of a parameter; whole numbers of batch sizes and epochs stay whole."""
Share = Annotated[float, Field(ge=0, le=1)]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Name = Annotated[str, Field(min_length=1)]
Difference = Annotated[float, Field(ge=-1, le=1)]


class _Table(BaseModel):
    """A table of the file: nothing unknown, nothing that changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Fixed(_Table):
    """What all configurations of a figure have in common; the parameter that varies is left out."""

    learning_rate: Annotated[float, Field(gt=0)] | None = None
    batch_size: Annotated[int, Field(ge=2, strict=True)] | None = None
    freeze_mode: FreezeMode | None = None
    epochs: Annotated[int, Field(ge=1, strict=True)] | None = None


class Protocol(_Table):
    """How a network is built and judged. The defaults are the sound way; each other value is a deviation by name."""

    head: HeadKind = "projection"
    """``paper``: the backbone with 1,000 outputs, ReLU, and a linear layer."""
    frozen_random_layer: bool = False
    """Whether freezing the backbone freezes a freshly initialised layer of the head, too."""
    evaluation_mode: Literal["eval", "train"] = "eval"
    """``train``: batch norm and dropout work at evaluation as they do in training."""
    split: Literal["seeded", "unseeded"] = "seeded"
    """``unseeded``: each run cuts validation from the training images at random, by a seed of its own."""
    measured: Literal["best epoch", "last epoch"] = "best epoch"
    """Which epoch's network is judged on held-out test: the best on validation, or the last."""

    def differs_in(self, other: Self) -> tuple[str, ...]:
        """Return the switches that are set otherwise in `other`."""
        return tuple(name for name in Protocol.model_fields if getattr(self, name) != getattr(other, name))


SOUND = Protocol()
"""The protocol without a deviation."""


@dataclass(frozen=True, order=True)
class Point:
    """One configuration, to which one published figure belongs."""

    backbone: str
    learning_rate: float
    batch_size: int
    freeze_mode: FreezeMode
    epochs: int


@dataclass(frozen=True)
class Bar:
    """A figure's configuration, and what was published of it."""

    point: Point
    """With the epochs that are trained here: the published ones times the experiment's scale."""
    level: Level
    """The published value of the parameter that varies."""
    published: float | None
    """Accuracy in [0, 1]; None: the paper does not give it."""


class Figure(_Table):
    """A figure or table of the paper: the accuracy of backbones over the levels of one parameter."""

    id: Identifier
    title: Name
    kind: Literal["bars", "table"]
    varies: Parameter
    levels: Annotated[tuple[Level, ...], Field(min_length=1)]
    fixed: Fixed
    published: Annotated[dict[str, tuple[Share | Literal["unknown"], ...]], Field(min_length=1)]
    """By backbone, an accuracy per level; ``unknown``: not in the paper."""
    decimals: Annotated[int, Field(ge=0, le=6)] = 2
    """Of the published accuracies."""
    note: str = ""
    """What the paper leaves open, and what is taken instead."""

    def value(self, backbone: str, level: Level) -> float | None:
        """Return what was published of a backbone at a level; None: nothing."""
        accuracies = self.published.get(backbone)
        found = None if accuracies is None else accuracies[self.levels.index(level)]
        return found if isinstance(found, float) else None

    def point(self, backbone: str, level: Level, scale: float = 1.0) -> Point:
        """Return the configuration of a backbone at a level, its epochs times `scale` and at least 1."""
        values: dict[str, Any] = {**self.fixed.model_dump(exclude_none=True), self.varies: level}
        epochs = max(1, math.floor(int(values["epochs"]) * scale + 0.5))
        return Point(backbone, float(values["learning_rate"]), int(values["batch_size"]), values["freeze_mode"], epochs)


class Claim(_Table):
    """A claim about differences: for each backbone, the first accuracy minus the second lies between two bounds."""

    text: Name
    figure: str
    """The figure whose configurations are compared."""
    first: Level
    """A level of the figure."""
    second: Level
    backbones: tuple[str, ...] = ()
    """For each of these; empty: those of the figure."""
    against: str | None = None
    """The backbone of the second configuration; None: that of the first."""
    above: Difference | None = None
    """The difference lies above this; None: no lower bound."""
    below: Difference | None = None
    why: str = ""
    """Where the bounds come from."""


class Conclusion(_Table):
    """What the paper concluded: it holds if each of its tests does."""

    id: Identifier
    text: Name
    tests: Annotated[tuple[Claim, ...], Field(min_length=1)]


class Literature(_Table):
    """What others published of the same dataset."""

    model: Name
    accuracy: Share
    metric: Name
    source: Name
    second_hand: bool = False
    """Whether the source quotes another."""


class Experiment(_Table):
    """A paper's experiments, what it published of them, and what it concluded."""

    name: Identifier
    title: Name
    source: Name
    """The citation."""
    dataset: Name
    test_images: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Images that the published accuracies are of, for their intervals; None: not known."""
    backbones: Annotated[tuple[Name, ...], Field(min_length=1)]
    weights: dict[str, Name] = {}
    """By backbone, those that the paper began with, where they are not the backbone's default."""
    protocol: Protocol = SOUND
    """The published one."""
    study_trials: Annotated[int, Field(ge=1, strict=True)] = 60
    """Trials of the study of each backbone that is set against the grid."""
    figures: Annotated[tuple[Figure, ...], Field(min_length=1)]
    conclusions: tuple[Conclusion, ...] = ()
    literature: tuple[Literature, ...] = ()
    notes: tuple[Name, ...] = ()
    """What is not known of how the paper measured."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """The published epochs are multiplied by this."""
    chosen: tuple[str, ...] | None = None
    """The backbones that are run; None: all."""

    def figure(self, identifier: str) -> Figure:
        """Return a figure by its id."""
        return next(one for one in self.figures if one.id == identifier)

    def bars(self, figure: Figure, backbones: Sequence[str] | None = None) -> list[Bar]:
        """Return a figure's configurations, by backbone in the experiment's order, then by level."""
        names = [one for one in self.backbones if one in figure.published and (backbones is None or one in backbones)]
        return [
            Bar(figure.point(name, level, self.scale), level, figure.value(name, level))
            for name in names
            for level in figure.levels
        ]

    def points(self) -> tuple[Point, ...]:
        """Return the distinct configurations of the chosen backbones, in the order of the figures."""
        return tuple(dict.fromkeys(bar.point for one in self.figures for bar in self.bars(one, self.chosen)))

    def runs(self) -> dict[Point, tuple[int, ...]]:
        """Return the distinct runs: one of the most epochs for all points that differ in nothing else.

        Returns:
            Of each run, the epochs after which it is read, rising; the last is its own.
        """
        epochs: dict[Point, list[int]] = {}
        for point in self.points():
            epochs.setdefault(replace(point, epochs=0), []).append(point.epochs)
        return {replace(run, epochs=max(read)): tuple(sorted(read)) for run, read in epochs.items()}

    def scaled(self, factor: float) -> Self:
        """Return the same experiment with its epochs times `factor`; points that then coincide are one.

        Raises:
            UsageError: The factor is not a positive number.
        """
        if not (factor > 0 and math.isfinite(factor)):
            raise UsageError(f"--scale must be a number above 0, but is {factor:g}.")
        return self.model_copy(update={"scale": self.scale * factor})

    def only(self, backbones: Sequence[str]) -> Self:
        """Return the same experiment, of which only some backbones are run.

        Raises:
            UsageError: One of them is not in the experiment, or there is none.
        """
        unknown = [one for one in backbones if one not in self.backbones]
        if unknown or not backbones:
            said = f"{', '.join(unknown)}: not in {self.name}" if unknown else "no backbone was named"
            raise UsageError(f"{said}; its backbones are {', '.join(self.backbones)}.")
        return self.model_copy(update={"chosen": tuple(one for one in self.backbones if one in backbones)})


def packaged() -> tuple[str, ...]:
    """Return the names of the experiments that come with this package."""
    return tuple(sorted(Path(one.name).stem for one in files("hpo.paper").iterdir() if one.name.endswith(".toml")))


def load(name: str = PAPER) -> Experiment:
    """Return an experiment: a packaged one by its name, or a user's own by its file's path.

    Raises:
        UsageError: There is none, or its file cannot be read or has mistakes; the message lists them all.
    """
    if name in packaged():
        return parse(files("hpo.paper").joinpath(f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")
    path = Path(name)
    try:
        text = decoded(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{name}: cannot be read ({error.strerror or error}); an experiment is a TOML file, or one of"
            f" {', '.join(packaged())}."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not valid TOML ({error}).") from error
    return parse(text, name)


def parse(text: str, where: str) -> Experiment:
    """Check an experiment's TOML document and return the experiment.

    Args:
        text: The document.
        where: Its name, for errors.

    Raises:
        UsageError: It has mistakes; the message has a line for each: file, key, the problem, what is allowed.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: is not valid TOML ({error}).") from error
    problems = [f"{key}: unknown; it is an option of the command." for key in ("scale", "chosen") if key in document]
    try:
        experiment = Experiment.model_validate(document)
    except ValidationError as error:
        problems += _problems(error)
    else:
        problems += _contradictions(experiment)
    if problems:
        raise UsageError("\n".join(f"{where}: {one}" for one in dict.fromkeys(problems)))
    return experiment


def _problems(error: ValidationError) -> Iterator[str]:
    """Yield the mistakes that pydantic found, for people: one line per key."""
    found: dict[str, list[str]] = {}
    inputs: dict[str, object] = {}
    for one in error.errors():
        # A list whose items are wrong counts as empty besides.
        if one["type"] == "too_short" and one["input"]:
            continue
        places = [place for place in one["loc"] if not str(place).startswith(("literal[", "constrained-"))]
        key = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places).lstrip(".")
        if one["type"] in ("missing", "extra_forbidden"):
            yield f"{key}: {'missing' if one['type'] == 'missing' else 'unknown'}; {_allowed(places[:-1])}."
        else:
            found.setdefault(key, []).append(one["msg"][0].lower() + one["msg"][1:])
            inputs[key] = one["input"]
    for key, messages in found.items():
        yield f"{key}: {', or '.join(messages)}, but it is {inputs[key]!r}."


def _allowed(places: Sequence[object]) -> str:
    """Return the keys of the table that a place of the document leads to."""
    tables: dict[object, type[_Table]] = {
        "figures": Figure,
        "fixed": Fixed,
        "conclusions": Conclusion,
        "tests": Claim,
        "literature": Literature,
        "protocol": Protocol,
    }
    named = [one for one in places if one in tables]
    table = tables[named[-1]] if named else Experiment
    keys = [one for one in table.model_fields if one not in ("scale", "chosen")]
    return f"the keys here are {', '.join(keys)}"


def _contradictions(experiment: Experiment) -> Iterator[str]:
    """Yield what does not fit together, in a document whose parts are right."""
    for name, values in (
        ("backbones", experiment.backbones),
        ("figures: id", [one.id for one in experiment.figures]),
        ("conclusions: id", [one.id for one in experiment.conclusions]),
    ):
        for twice in sorted({one for one in values if list(values).count(one) > 1}):
            yield f"{name}: {twice} stands there twice; each may once."
    for backbone in experiment.weights:
        if backbone not in experiment.backbones:
            yield f"weights.{backbone}: no such backbone; there are {', '.join(experiment.backbones)}."
    for number, figure in enumerate(experiment.figures):
        for problem in _of_figure(figure, experiment):
            yield f"figures[{number}].{problem}"
    for number, conclusion in enumerate(experiment.conclusions):
        for index, test in enumerate(conclusion.tests):
            for problem in _of_test(test, experiment):
                yield f"conclusions[{number}].tests[{index}].{problem}"


def _of_figure(figure: Figure, experiment: Experiment) -> Iterator[str]:
    given = figure.fixed.model_dump(exclude_none=True)
    for name in Fixed.model_fields:
        if name == figure.varies and name in given:
            yield f"fixed.{name}: the parameter that varies cannot be fixed; remove it."
        elif name != figure.varies and name not in given:
            yield f"fixed.{name}: missing; all but {figure.varies}, which varies, are needed."
    for level in figure.levels:
        try:
            Fixed.model_validate({figure.varies: level})
        except ValidationError as error:
            yield f"levels: {level!r} is no {figure.varies.replace('_', ' ')} ({error.errors()[0]['msg'].lower()})."
    if len(set(figure.levels)) < len(figure.levels):
        yield f"levels: each may stand there once, but they are {list(figure.levels)}."
    for backbone, accuracies in figure.published.items():
        if backbone not in experiment.backbones:
            yield f"published.{backbone}: no such backbone; there are {', '.join(experiment.backbones)}."
        if len(accuracies) != len(figure.levels):
            yield (
                f"published.{backbone}: one accuracy per level is needed, {len(figure.levels)}, but there are"
                f" {len(accuracies)}."
            )


def _of_test(test: Claim, experiment: Experiment) -> Iterator[str]:
    if test.above is None and test.below is None:
        yield "above: a test needs above, below or both."
    if test.above is not None and test.below is not None and test.above >= test.below:
        yield f"above: must be less than below, but is {test.above:g} and below is {test.below:g}."
    figures = {one.id: one for one in experiment.figures}
    if test.figure not in figures:
        yield f"figure: no figure is called {test.figure!r}; there are {', '.join(figures)}."
        return
    figure = figures[test.figure]
    for name, level in (("first", test.first), ("second", test.second)):
        if level not in figure.levels:
            yield f"{name}: {level!r} is no level of {figure.id}; there are {', '.join(map(str, figure.levels))}."
    if test.first == test.second and test.against is None:
        yield "second: the same as first; name another level, or another backbone in against."
    for name, backbones in (("backbones", test.backbones), ("against", (test.against,) if test.against else ())):
        for backbone in backbones:
            if backbone not in figure.published:
                yield f"{name}: {backbone} is not in {figure.id}; there are {', '.join(figure.published)}."
