"""Verdicts on a paper's conclusions, from predictions that were made for each."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.paper.experiment import Claim, Conclusion, Experiment, Point, Protocol, load, parse
from hpo.paper.measured import best_of_grid, by_protocol
from hpo.paper.verdicts import Judgement, judge
from tests.hpo.paper.test_experiment import SMALL
from tests.measured_papers import as_published, cells

PAPER = load()
POINTS = PAPER.points()


def judged(
    accuracy: Callable[[Point, Protocol], float], experiment: Experiment = PAPER, **options: object
) -> dict[str, Judgement]:
    found = cells(experiment.points(), accuracy, **{"images": 3_669, **options})  # type: ignore[arg-type]
    (measured,) = by_protocol(found).values()
    return {one.conclusion.id: one for one in judge(experiment, measured)}


@pytest.fixture(scope="module")
def as_the_paper_says() -> dict[str, Judgement]:
    """All that the paper concluded, and more clearly than it found it."""

    def accuracy(point: Point, _: Protocol) -> float:
        far = 0.4 if point.backbone == "simclr" else 0.0
        slow = 0.6 if point.backbone in ("vgg", "vit") else 0.08
        frozen = {"simclr": 0.35, "vit": -0.05}.get(point.backbone, 0.05)
        return 0.93 - far - slow * (point.learning_rate == 0.001) - frozen * (point.freeze_mode == "backbone")

    return judged(accuracy)


def test_what_the_paper_concluded_is_confirmed_where_it_is_so(as_the_paper_says: dict[str, Judgement]) -> None:
    assert {name: one.verdict for name, one in as_the_paper_says.items()} == {
        "learning-rate": "confirmed",
        "batch-size": "confirmed",
        "epochs": "confirmed",
        "transfer": "confirmed",
        "simclr": "confirmed",
    }
    assert [len(one.comparisons) for one in as_the_paper_says.values()] == [7, 7, 14, 7, 6]


def test_published_differences_stand_beside_the_measured(as_the_paper_says: dict[str, Judgement]) -> None:
    published = {one.backbone: one.published for one in as_the_paper_says["learning-rate"].comparisons}

    assert published == {
        "simclr": 0.03, "resnet18": 0.1, "resnet50": 0.09, "inception": 0.12, "swin": 0.11, "vgg": 0.73, "vit": 0.76,
    }  # fmt: skip


def test_the_opposite_is_contradicted() -> None:
    def accuracy(point: Point, _: Protocol) -> float:
        return (
            0.9
            - 0.1 * (point.learning_rate == 0.0001)
            - 0.1 * (point.batch_size == 64)
            - 0.1 * (point.epochs < 50)
            + 0.1 * (point.freeze_mode == "backbone" and point.backbone != "vit")
        )

    assert {one.verdict for one in judged(accuracy).values()} == {"contradicted"}


def test_a_single_backbone_contradicts_a_conclusion_about_all() -> None:
    def accuracy(point: Point, _: Protocol) -> float:
        return 0.8 + 0.1 * (point.backbone == "swin" and point.batch_size == 64)

    found = judged(accuracy)["batch-size"]

    assert found.verdict == "contradicted"
    assert [one.backbone for one in found.having("contradicted")] == ["swin"]
    assert len(found.having("confirmed")) == 6


def test_few_images_decide_nothing_that_many_decide() -> None:
    def accuracy(point: Point, _: Protocol) -> float:
        return 0.8

    assert judged(accuracy)["batch-size"].verdict == "confirmed"
    assert judged(accuracy, images=60)["batch-size"].verdict == "undecided"


def test_what_was_not_measured_is_undecided_and_said() -> None:
    def accuracy(point: Point, _: Protocol) -> float:
        return 0.8

    some = cells(PAPER.only(["vit", "resnet18"]).points(), accuracy, images=3_669)
    (measured,) = by_protocol(some).values()
    found = {one.conclusion.id: one for one in judge(PAPER, measured)}

    assert found["batch-size"].verdict == "undecided"
    assert len(found["batch-size"].having("confirmed")) == 2
    assert {one.backbone for one in found["batch-size"].missing} == {*PAPER.backbones} - {"vit", "resnet18"}
    assert "not measured: simclr, fine-tuned, learning rate 0.0001" in found["batch-size"].missing[0].missing
    assert found["simclr"].verdict == "undecided"
    assert not judge(PAPER, {})[0].having("undecided")


def test_a_scale_that_makes_two_levels_one_decides_nothing() -> None:
    scaled = PAPER.scaled(0.02)

    found = judged(lambda point, _: 0.9, scaled)["epochs"]

    assert found.verdict == "undecided"
    assert {one.missing for one in found.comparisons} == {"at this scale both are the same run"}


def test_different_images_or_seeds_are_not_paired() -> None:
    experiment = parse(SMALL, "small")
    first, second, *others = cells(experiment.points(), lambda point, _: 0.9)
    turned = replace(second, labels=second.labels[::-1], predicted=second.predicted[::-1])
    for changed, said in (
        (turned, "their test images are not the same"),
        (replace(second, seed=7), "their seeds are not the same"),
    ):
        (measured,) = by_protocol([first, changed, *others]).values()
        (found,) = judge(experiment, measured)
        assert found.missing[0].missing == said


def test_many_seeds_that_disagree_leave_it_undecided_where_one_would_not() -> None:
    experiment = parse(SMALL, "small")

    def accuracy(point: Point, _: Protocol) -> float:
        return 0.7 + 0.03 * (point.learning_rate == 0.01)

    agreeing = judged(accuracy, experiment, seeds=range(5))
    disagreeing = judged(accuracy, experiment, seeds=range(5), spread=0.08)

    assert agreeing["rate"].verdict == "confirmed"
    assert disagreeing["rate"].verdict == "undecided"
    assert agreeing["rate"].comparisons[0].mcnemar is None


@given(st.floats(-0.3, 0.3), st.floats(0.01, 0.3))
@settings(max_examples=30, deadline=None)
def test_a_verdict_is_never_against_the_interval(shift: float, margin: float) -> None:
    """Both differences, unadjusted 95 % intervals: a decision needs at least one that leaves the bound."""
    text = SMALL.replace("above = 0.0", f"above = {-margin!r}\nbelow = {margin!r}")
    experiment = parse(text, "small")

    (found,) = judged(lambda point, _: 0.6 + shift * (point.learning_rate == 0.01), experiment, images=500).values()

    for one in found.comparisons:
        assert one.measured is not None
        if one.verdict == "confirmed":
            assert -margin <= one.measured.low <= one.measured.high <= margin
        if one.verdict == "contradicted":
            assert one.measured.low >= margin or one.measured.high <= -margin


def test_a_claim_that_is_false_is_rarely_called_confirmed() -> None:
    """Two equal backbones, "better": at most 5 % of 200 repetitions may say so."""
    experiment = parse(SMALL, "small")
    points = experiment.points()
    wrongly = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        made = [
            replace(one, predicted=np.where(generator.random(400) < 0.8, one.labels, (one.labels + 1) % 37))
            for one in cells(points, lambda point, _: 0.8, images=400)
        ]
        (measured,) = by_protocol(made).values()
        wrongly += bool(judge(experiment, measured)[0].having("confirmed"))

    assert wrongly <= 18


def test_the_best_of_a_grid_is_chosen_on_validation_and_its_cost_counts_each_run_once() -> None:
    found = [
        replace(one, gpu_seconds=float(one.point.epochs), val_accuracy=0.1 + 0.5 * (one.point.epochs == 20))
        for one in cells(POINTS, as_published(PAPER), images=50, seeds=(0, 1))
        if one.point.backbone == "vit"
    ]
    (measured,) = by_protocol(found).values()

    best = best_of_grid(measured, "vit")

    assert best is not None
    assert best.point == Point("vit", 0.0001, 64, "none", 20)
    assert best.gpu_seconds == 4 * 50
    assert best_of_grid(measured, "swin") is None


def test_the_protocol_of_most_configurations_comes_first() -> None:
    sound = cells(POINTS[:3], as_published(PAPER), images=20)
    published = cells(POINTS[:4], as_published(PAPER), images=20, protocol=PAPER.protocol)

    assert [*by_protocol([*sound, *published])] == [PAPER.protocol, sound[0].protocol]
    assert [*by_protocol([*published[:3], *sound])] == [sound[0].protocol, PAPER.protocol]


def test_a_backbone_is_not_compared_with_itself() -> None:
    claim = Claim(text="t", figure="figure-5", first="none", second="none", against="simclr", above=0.0)
    experiment = PAPER.model_copy(update={"conclusions": (Conclusion(id="c", text="c", tests=(claim,)),)})

    (found,) = judge(experiment, {})

    assert [one.backbone for one in found.comparisons] == [one for one in PAPER.backbones if one != "simclr"]
