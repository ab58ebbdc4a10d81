"""Whether what was measured confirms what a paper concluded.

A claim says of each of some backbones that the difference of two accuracies lies between bounds. A comparison confirms
it if the 95 % interval of the paired difference lies within them, and contradicts it if it lies outside; for bounds
around 0 that is the equivalence test of two one-sided tests (Schuirmann 1987). The p-values of a conclusion's
comparisons are adjusted for their number (Holm 1979), so that an interval may lie within a claim that stays undecided.
Those of confirming and those of contradicting are adjusted each by themselves: the chance that any comparison is
wrongly called confirmed is at most 5 %, and so is that of any wrongly called contradicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hpo.final.significance import SIGNIFICANT, differ, holm
from hpo.paper.experiment import Claim, Conclusion, Experiment, Point
from hpo.paper.measured import Cell, Measured, right
from hpo.paper.paired import PairedDifference, difference

Verdict = Literal["confirmed", "contradicted", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("confirmed", "contradicted", "undecided")


@dataclass(frozen=True)
class Comparison:
    """A claim, of one backbone."""

    claim: Claim
    backbone: str
    first: Point
    second: Point
    published: float | None
    """The published difference; None: not in the paper."""
    measured: PairedDifference | None = None
    """None: see `missing`."""
    mcnemar: float | None = None
    """McNemar's exact p-value of that the two are equally accurate, unadjusted; None: not of a single seed."""
    missing: str = ""
    """Why there is no measured difference."""
    p_confirmed: float = 1.0
    """Two-sided p-value of that the claim is wrong; from `judge` on adjusted by Holm."""
    p_contradicted: float = 1.0
    """Of that the claim is right."""

    @property
    def verdict(self) -> Verdict:
        """What the measured difference says of the claim."""
        if self.measured is None or min(self.p_confirmed, self.p_contradicted) >= SIGNIFICANT:
            return "undecided"
        return "confirmed" if self.p_confirmed < self.p_contradicted else "contradicted"


@dataclass(frozen=True)
class Judgement:
    """A conclusion of the paper, and what was measured of it."""

    conclusion: Conclusion
    comparisons: tuple[Comparison, ...]

    @property
    def verdict(self) -> Verdict:
        """``confirmed`` if every comparison is; ``contradicted`` if any is; else ``undecided``."""
        found = {one.verdict for one in self.comparisons}
        if "contradicted" in found:
            return "contradicted"
        return "confirmed" if found == {"confirmed"} else "undecided"

    def having(self, verdict: Verdict) -> list[Comparison]:
        """Return the comparisons of a verdict; those that were not measured are not among them."""
        return [one for one in self.comparisons if one.verdict == verdict and one.measured is not None]

    @property
    def missing(self) -> list[Comparison]:
        """The comparisons that were not measured."""
        return [one for one in self.comparisons if one.measured is None]


def judge(experiment: Experiment, measured: Measured) -> list[Judgement]:
    """Return what was measured of each of a paper's conclusions.

    Args:
        experiment: With the scale at which it was measured.
        measured: Cells of one protocol.
    """
    return [
        Judgement(
            conclusion, _adjusted([one for claim in conclusion.tests for one in _compared(claim, experiment, measured)])
        )
        for conclusion in experiment.conclusions
    ]


def _compared(claim: Claim, experiment: Experiment, measured: Measured) -> list[Comparison]:
    figure = experiment.figure(claim.figure)
    backbones = claim.backbones or tuple(one for one in experiment.backbones if one in figure.published)
    found = []
    for backbone in backbones:
        if backbone == claim.against and claim.first == claim.second:
            continue
        other = claim.against or backbone
        first, second = figure.value(backbone, claim.first), figure.value(other, claim.second)
        # Accuracies of two decimals have differences of two.
        published = None if first is None or second is None else round(first - second, figure.decimals)
        comparison = Comparison(
            claim,
            backbone,
            figure.point(backbone, claim.first, experiment.scale),
            figure.point(other, claim.second, experiment.scale),
            published,
        )
        found.append(_tested(comparison, measured))
    return found


def _tested(comparison: Comparison, measured: Measured) -> Comparison:
    """Fill in what was measured, with p-values that are not adjusted."""
    if comparison.first == comparison.second:
        return replace(comparison, missing="at this scale both are the same run")
    unmeasured = [one for one in (comparison.first, comparison.second) if not measured.get(one)]
    if unmeasured:
        return replace(comparison, missing=f"not measured: {described(unmeasured[0])}")
    first, second = _same_seeds(measured[comparison.first], measured[comparison.second])
    if not first:
        return replace(comparison, missing="their seeds are not the same")
    try:
        table, other = right(first), right(second)
    except ValueError:
        return replace(comparison, missing="their test images are not the same")
    if first[0].labels.tobytes() != second[0].labels.tobytes():
        return replace(comparison, missing="their test images are not the same")
    found = difference(table, other)
    within, outside = [], []
    if (bound := comparison.claim.above) is not None:
        within.append(found.p_above(bound))
        outside.append(found.p_below(bound))
    if (bound := comparison.claim.below) is not None:
        within.append(found.p_below(bound))
        outside.append(found.p_above(bound))
    return replace(
        comparison,
        measured=found,
        mcnemar=differ(table[0], other[0]) if len(first) == 1 else None,
        p_confirmed=min(1.0, 2 * max(within)),
        p_contradicted=min(1.0, 2 * min(outside)),
    )


def _same_seeds(first: Sequence[Cell], second: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    seeds = {one.seed for one in first} & {one.seed for one in second}
    return [one for one in first if one.seed in seeds], [one for one in second if one.seed in seeds]


def _adjusted(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    tested = [one for one in comparisons if one.measured is not None]
    confirmed = holm([one.p_confirmed for one in tested])
    contradicted = holm([one.p_contradicted for one in tested])
    adjusted = iter(
        replace(one, p_confirmed=right, p_contradicted=wrong)
        for one, right, wrong in zip(tested, confirmed, contradicted, strict=True)
    )
    return tuple(one if one.measured is None else next(adjusted) for one in comparisons)


def described(point: Point) -> str:
    """Return a configuration in words."""
    freeze = {"none": "fine-tuned", "partial": "partly frozen", "backbone": "frozen"}[point.freeze_mode]
    epochs = f"{point.epochs} epoch{'s' * (point.epochs != 1)}"
    return f"{point.backbone}, {freeze}, learning rate {point.learning_rate:g}, batch {point.batch_size}, {epochs}"
