"""What can be concluded from accuracies: published intervals and tests, and which trials are tied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.final.significance import differ, difference_interval, tied_with, wilson_interval
from hpo.ledger.records import TrialRecord
from tests.makers import epoch
from trainables.predictions import pack, unpack

LABELS = np.arange(200) % 10


def trial(number: int, wrong: list[int]) -> TrialRecord:
    """A trial that takes the images at `wrong` for another class."""
    predicted = LABELS.copy()
    predicted[wrong] = (predicted[wrong] + 1) % 10
    accuracy = float((predicted == LABELS).mean())
    return TrialRecord(
        number, "COMPLETE", {}, (epoch(1, accuracy),), None, None, None, None, val_predictions=pack(predicted)
    )


def test_the_wilson_interval_is_the_published_one() -> None:
    """Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_the_interval_of_a_difference_is_the_published_one() -> None:
    """Newcombe (1998), "Interval estimation for the difference", table II: 56/70 - 48/80, method 10."""
    assert difference_interval((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_mcnemars_exact_test_counts_the_images_that_one_alone_classifies_right() -> None:
    right, other = np.array([True] * 15 + [False] * 5), np.array([False] * 10 + [True] * 10)

    # 10 images for the one, 5 for the other: twice the chance of 5 or fewer of 15.
    assert differ(right, other) == pytest.approx(0.3018, abs=1e-4)
    assert differ(right, right) == 1.0


def test_trials_within_the_noise_of_the_best_are_named() -> None:
    best, close, far = trial(0, [1]), trial(1, [2, 3, 4]), trial(2, list(range(50, 90)))

    assert tied_with(best, [best, close, far], pack(LABELS)) == ([1], 2)
    assert tied_with(far, [best, close, far], pack(LABELS)) == ([0, 1], 2)


def test_of_trials_that_kept_no_predictions_nothing_is_said() -> None:
    old = TrialRecord(0, "COMPLETE", {}, (epoch(1, 0.9),), None, None, None, None)

    assert tied_with(old, [old], pack(LABELS)) is None
    assert tied_with(trial(0, []), [trial(0, [])], "") is None


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=300))
def test_packed_predictions_come_back(classes: list[int]) -> None:
    assert unpack(pack(np.array(classes))).tolist() == classes
