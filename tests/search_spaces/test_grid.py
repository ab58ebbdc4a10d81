"""A grid holds every configuration of its space once, those to try first in front."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FixedTrial

import search_spaces
from search_spaces import SearchSpace, SpaceError

VALID: dict[str, Any] = {
    "learning_rate": {"choices": [1e-3, 1e-4]},
    "batch_size": {"choices": [32, 64]},
    "epochs": {"low": 10, "high": 50, "step": 20},
    "freeze_mode": {"choices": ["none", "backbone"]},
}

stepped = st.tuples(st.integers(1, 50), st.integers(0, 3), st.integers(1, 20)).map(
    lambda drawn: {"low": drawn[0], "high": drawn[0] + drawn[1] * drawn[2], "step": drawn[2]}
)
whole = stepped | st.lists(st.integers(1, 500), min_size=1, max_size=3, unique=True).map(
    lambda values: {"choices": values}
)
rate_range = st.tuples(st.integers(1, 9), st.integers(1, 3)).map(
    lambda drawn: {"low": drawn[0] / 10, "high": (drawn[0] + drawn[1]) / 10, "step": 0.1}
)
rate_choices = st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True).map(
    lambda values: {"choices": [value * 1e-4 for value in values]}
)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Grids with and without conditions, and with entries to try first, complete or not, repeated or not."""
    modes = draw(st.lists(st.sampled_from(["none", "partial", "backbone"]), min_size=1, max_size=3, unique=True))
    parameters: dict[str, Any] = {
        "learning_rate": draw(rate_range | rate_choices),
        "batch_size": draw(whole),
        "epochs": [{**draw(stepped), "when": {"freeze_mode": mode}} for mode in modes]
        if draw(st.booleans())
        else draw(whole),
        "freeze_mode": {"choices": modes},
    }
    document: dict[str, Any] = {"parameters": parameters}
    points = search_spaces.grid(search_spaces.from_dict(document, "drawn"))
    chosen = draw(st.lists(st.sampled_from(points), max_size=3))
    names = st.lists(st.sampled_from(list(VALID)), min_size=1, unique=True)
    document["enqueue"] = [{name: point[name] for name in draw(names)} for point in chosen]
    return search_spaces.from_dict(document, "drawn")


@settings(max_examples=100, deadline=None)
@given(spaces())
def test_a_grid_is_the_product_of_what_can_be_drawn(space: SearchSpace) -> None:
    points = search_spaces.grid(space)

    assert len({tuple(point.items()) for point in points}) == len(points) == size(space)
    for point in points:
        assert search_spaces.suggest(space, FixedTrial(dict(point))) == point


def size(space: SearchSpace) -> int:
    """Count a space's configurations without listing them: conditions are on freeze modes alone here."""
    total = 0
    for mode in space.freeze_modes:
        count = 1
        for name in ("learning_rate", "batch_size", "epochs"):
            (one,) = [a for a in space.parameters[name] if not a.when or mode in a.when["freeze_mode"]]
            kind = one.distribution
            if isinstance(kind, CategoricalDistribution):
                count *= len(kind.choices)
            else:
                count *= round((kind.high - kind.low) / (kind.step or 1)) + 1
        total += count
    return total


@settings(max_examples=100, deadline=None)
@given(spaces())
def test_what_is_to_be_tried_first_is_first_and_not_again(space: SearchSpace) -> None:
    points = list(search_spaces.grid(space))
    plain = list(search_spaces.grid(SearchSpace(space.parameters, ())))

    first: list[dict[str, Any]] = []
    for entry in space.enqueue:
        left = [point for point in plain if point not in first]
        fitting = [point for point in left if entry.items() <= point.items()]
        first += fitting[:1]
    assert points == first + [point for point in plain if point not in first]


def test_the_last_parameter_changes_fastest() -> None:
    points = search_spaces.grid(search_spaces.from_dict({"parameters": VALID}, "test"))

    assert [tuple(point.values()) for point in points] == list(
        itertools.product([1e-3, 1e-4], [32, 64], [10, 30, 50], ["none", "backbone"])
    )


@pytest.mark.parametrize(
    "rate", [{"low": 1e-5, "high": 1e-3}, {"low": 1e-5, "high": 1e-3, "log": True}], ids=["plain", "log"]
)
def test_a_continuum_is_no_grid(rate: dict[str, Any]) -> None:
    space = search_spaces.from_dict({"parameters": {**VALID, "learning_rate": rate}}, "test")

    with pytest.raises(SpaceError, match=r"^--sampler grid: parameters\.learning_rate: a grid needs choices, or a"):
        search_spaces.grid(space)


def test_a_grid_that_was_not_meant_is_refused() -> None:
    wide = {"low": 1, "high": 60_000}
    space = search_spaces.from_dict({"parameters": {**VALID, "epochs": wide}}, "test")

    with pytest.raises(SpaceError, match="more than 100000 configurations"):
        search_spaces.grid(space)
