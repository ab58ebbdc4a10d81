"""What a study's figures can be trusted to say: which trials are tied, and how optimistic validation was."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr
from scipy.stats import binomtest

from hpo.ledger.records import TrialRecord
from trainables.predictions import unpack

SIGNIFICANT = 0.05
"""Two trials differ if the p-value is below this."""


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of `right` out of `total` (Wilson 1927; Brown, Cai & DasGupta 2001)."""
    interval = binomtest(right, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def difference_interval(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """Return the 95 % interval of the first share minus the second, each (right, total), of different images.

    Newcombe (1998), "Interval estimation for the difference between independent proportions", method 10.
    """
    (low_1, high_1), (low_2, high_2) = wilson_interval(*first), wilson_interval(*second)
    share_1, share_2 = first[0] / first[1], second[0] / second[1]
    difference = share_1 - share_2
    below = ((share_1 - low_1) ** 2 + (high_2 - share_2) ** 2) ** 0.5
    above = ((high_1 - share_1) ** 2 + (share_2 - low_2) ** 2) ** 0.5
    return difference - below, difference + above


def differ(right: np.ndarray, others: np.ndarray) -> float:
    """Return how likely two equally accurate classifiers are to differ this much on the same images.

    The exact test of McNemar (1947): of the images that one alone classifies right, either has half.

    Args:
        right: (N,) bool, which images the one classifies right.
        others: (N,) bool, which images the other does.
    """
    only_one, only_other = int((right & ~others).sum()), int((~right & others).sum())
    if only_one == only_other:
        return 1.0
    # What `binomtest` computes for a share of one half, in a hundredth of its time.
    return min(1.0, 2 * float(bdtr(min(only_one, only_other), only_one + only_other, 0.5)))


@dataclass(frozen=True)
class PairedTest:
    """A trial against the best one, on the same validation images at the best epoch of each."""

    number: int
    """The trial's."""
    difference: int
    """Images that the best one has right beyond this one."""
    p_value: float
    """McNemar's exact test, not corrected for how many trials are compared."""

    @property
    def is_tied(self) -> bool:
        """Whether validation cannot call the trial worse."""
        return self.p_value >= SIGNIFICANT or self.difference < 0


def paired_tests(best: TrialRecord, records: Sequence[TrialRecord], labels: str) -> list[PairedTest] | None:
    """Return each other trial against the best one, by number, of those that kept their predictions.

    Args:
        best: The trial of the highest validation accuracy.
        records: The study's trials.
        labels: The validation images' classes, packed.

    Returns:
        None where the predictions of the best were not kept, as of a trial of hpo 0.1.0.
    """
    if best.val_predictions is None or not labels:
        return None
    truth = unpack(labels)
    right = unpack(best.val_predictions) == truth
    others = {
        one.number: unpack(one.val_predictions) == truth
        for one in records
        if one.number != best.number and one.val_predictions is not None
    }
    return [
        PairedTest(number, int(right.sum()) - int(their.sum()), differ(right, their))
        for number, their in others.items()
    ]


def tied_with(best: TrialRecord, records: Sequence[TrialRecord], labels: str) -> tuple[list[int], int] | None:
    """Return the trials that validation cannot call worse than one, by number, and how many were compared with it.

    The arguments are those of `paired_tests`; None where it returns None.
    """
    tests = paired_tests(best, records, labels)
    return None if tests is None else ([one.number for one in tests if one.is_tied], len(tests))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in their order (Holm 1979): the family-wise error rate holds."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted
