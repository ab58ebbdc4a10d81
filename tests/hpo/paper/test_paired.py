"""Intervals of accuracies and of paired differences, against what is known of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpo.final.significance import wilson_interval
from hpo.paper.paired import accuracy, difference

TABLES = st.tuples(st.integers(1, 4), st.integers(1, 40)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def test_the_accuracy_of_one_seed_has_wilsons_interval() -> None:
    right = np.arange(100)[None] < 80

    found = accuracy(right)

    assert (found.low, found.high) == wilson_interval(80, 100)
    assert (found.value, found.n_seeds) == (0.8, 1)


def test_a_difference_of_one_seed_is_agresti_and_mins() -> None:
    """By hand: 12 images right in the first alone, 4 in the second alone, of 100."""
    first, second = np.zeros((1, 100), bool), np.zeros((1, 100), bool)
    first[0, :12] = second[0, 12:16] = True
    b, c, n = 12.5, 4.5, 102
    error = np.sqrt(((b + c) - (b - c) ** 2 / n) / n**2)

    found = difference(first, second)

    assert found.value == pytest.approx(0.08)
    assert found.centre == pytest.approx((b - c) / n)
    assert found.error == pytest.approx(error)
    assert (found.low, found.high) == pytest.approx(
        ((b - c) / n - 1.984 * error, (b - c) / n + 1.984 * error), abs=1e-4
    )


def test_seeds_that_differ_widen_the_interval() -> None:
    one = np.arange(400)[None] < 320
    seeds = np.concatenate([np.arange(400)[None] < count for count in (280, 320, 360)])

    alike, unlike = accuracy(np.repeat(one, 3, axis=0)), accuracy(seeds)

    assert alike.value == unlike.value == 0.8
    assert unlike.high - unlike.low > 2 * (alike.high - alike.low)


def test_the_interval_covers_the_true_difference_when_images_and_seeds_vary() -> None:
    """Of 400 draws of 3 seeds and 300 images 95 % would be 380; the rule errs on the safe side."""
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        chance = generator.random(300)
        shifts = generator.normal(0, 0.03, (2, 3, 1))
        draws = generator.random((2, 3, 300))
        # P(right) is uniform over images but for the seeds' shifts: the expected difference is 0.05.
        first, second = draws[0] < chance + shifts[0] + 0.05, draws[1] < chance + shifts[1]
        true = np.mean(np.clip(np.linspace(0, 1, 10_001) + 0.05, 0, 1)) - 0.5
        found = difference(first, second)
        covered += int(found.low <= true <= found.high)

    assert covered >= 368


@given(TABLES)
@settings(max_examples=60, deadline=None)
def test_intervals_hold_their_value_and_swap_with_their_sides(tables: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = tables

    one, other, share = difference(first, second), difference(second, first), accuracy(first)

    assert -1 <= one.low <= one.high <= 1
    assert one.error > 0
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.p_above(0.1) == pytest.approx(other.p_below(-0.1))
    assert one.p_above(0.1) + one.p_below(0.1) == pytest.approx(1)
    assert 0 <= share.low <= share.value <= share.high <= 1
