"""A search space as a grid: every configuration that its choices and stepped ranges hold."""

import itertools
import math
from collections.abc import Iterator, Mapping

from optuna.distributions import CategoricalDistribution, IntDistribution

from search_spaces.parameters import ParamValue
from search_spaces.space import Distribution, SearchSpace, SpaceError, holding

Point = dict[str, ParamValue]

_LARGEST = 100_000
"""Configurations; a grid of more was not meant."""


def grid(space: SearchSpace) -> tuple[Point, ...]:
    """Return every configuration of a space once, those of its ``enqueue`` entries first, in their order.

    The others follow in the order of the parameters and of their values, the last parameter changing fastest. An entry
    that leaves something out stands for the first configuration that agrees with it and is not taken yet.

    Raises:
        SpaceError: A range has no step, so that it holds no countable values; there are too many configurations; or an
            entry agrees with none.
    """
    problems = [
        f"parameters.{name}: a grid needs choices, or a range with a step and without log."
        for name, alternatives in space.parameters.items()
        if any(_values(alternative.distribution) is None for alternative in alternatives)
    ]
    if problems:
        raise SpaceError("\n".join(f"--sampler grid: {problem}" for problem in problems))
    points = list(itertools.islice(_points(space, list(space.parameters), {}), _LARGEST + 1))
    if len(points) > _LARGEST:
        raise SpaceError(f"--sampler grid: the space holds more than {_LARGEST} configurations; give fewer values.")
    first: list[Point] = []
    for index, entry in enumerate(space.enqueue):
        fitting = next((point for point in points if _agree(point, entry)), None)
        if fitting is not None:
            points.remove(fitting)
            first.append(fitting)
        elif not any(_agree(point, entry) for point in first):
            raise SpaceError(f"--sampler grid: enqueue[{index}]: no configuration of the space agrees with it.")
    return (*first, *points)


def _points(space: SearchSpace, names: list[str], values: Point) -> Iterator[Point]:
    if not names:
        yield values
        return
    name, *others = names
    (alternative,) = holding(space.parameters[name], values)
    for value in _values(alternative.distribution) or ():
        yield from _points(space, others, {**values, name: value})


def _values(distribution: Distribution) -> list[ParamValue] | None:
    """Return what a parameter can be, in order; None: it is a continuum."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)  # type: ignore[arg-type] # checked values
    if distribution.low == distribution.high:
        return [distribution.low]
    if distribution.log or distribution.step is None:
        return None
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    count = round((distribution.high - distribution.low) / distribution.step)
    return [min(distribution.low + index * distribution.step, distribution.high) for index in range(count + 1)]


def _agree(point: Point, entry: Mapping[str, ParamValue]) -> bool:
    return all(_same(point[name], value) for name, value in entry.items())


def _same(one: ParamValue, other: ParamValue) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return math.isclose(one, other, rel_tol=1e-12)
