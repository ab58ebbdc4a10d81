"""The paper is 35 runs instead of 50, and a study's trials are exactly its runs."""

import math

import pytest

import search_spaces
from hpo.paper.experiment import SOUND, Experiment, load
from hpo.paper.runs.cost import Images, costs, modes, study_hours
from hpo.paper.runs.plan import PlannedStudy, ablated, main_points, plan, scaled_space
from trainables.config import FreezeMode
from trainables.published.protocol import Protocol as Switches
from trainables.published.speed import Speed

PAPER = load()


def planned(experiment: Experiment = PAPER, *, seeds: int = 1, weights: str = "default") -> list[PlannedStudy]:
    given = dict.fromkeys(experiment.backbones, weights)
    return plan(experiment, [SOUND], study="paper", dataset="pets", seeds=seeds, weights=given)


def test_the_paper_is_35_runs_that_measure_its_50_configurations() -> None:
    studies = planned()

    assert sum(len(study.runs) for study in studies) == 35
    points = [point for study in studies for run in study.runs for point in run.points]
    assert len(points) == len(set(points)) == 50
    assert set(points) == set(PAPER.points())
    assert [(study.name, len(study.runs), study.epochs) for study in studies[:2]] == [
        ("paper-simclr-pets", 11, 370),
        ("paper-resnet18-pets", 4, 200),
    ]


def test_a_run_is_read_where_configurations_differ_in_epochs_alone() -> None:
    reads = {run.reads for study in planned() for run in study.runs}

    assert reads == {(10, 20, 50), (20, 50), (20,), (50,)}


def test_a_studys_first_trials_are_its_runs() -> None:
    for study in planned():
        space = search_spaces.from_dict(study.search.space, "planned", trainable="published")

        first = search_spaces.grid(space)[: len(study.runs)]

        assert all(run.params.items() <= point.items() for run, point in zip(study.runs, first, strict=True))
        assert not study.search.asha


def test_configurations_that_coincide_at_a_small_scale_are_one() -> None:
    studies = planned(PAPER.scaled(0.02))

    assert {run.reads for study in studies for run in study.runs} == {(1,)}
    assert len(PAPER.scaled(0.02).points()) == sum(len(study.runs) for study in studies) == 35


def test_each_seed_and_backbone_is_a_study_of_its_own() -> None:
    studies = planned(PAPER.only(["resnet18", "simclr"]), seeds=2)

    names = [study.name for study in studies]
    assert names == [f"paper-{one}-pets{seed}" for one in ("simclr", "resnet18") for seed in ("", "-seed1")]


def test_without_weights_nothing_is_frozen() -> None:
    (study,) = planned(PAPER.only(["resnet18"]), weights="none")

    assert {run.point.freeze_mode for run in study.runs} == {"none"}
    assert len(study.runs) == 3


def test_an_ablation_takes_back_one_switch_at_a_time() -> None:
    protocols = ablated(PAPER)

    assert protocols[0] == PAPER.protocol
    assert protocols[-1] == SOUND
    assert [PAPER.protocol.differs_in(one) for one in protocols[1:-1]] == [
        (name,) for name in PAPER.protocol.differs_in(SOUND)
    ]
    points = main_points(PAPER, "simclr")
    studies = plan(PAPER, protocols, study="a", dataset="pets", seeds=1, weights={}, points=points)
    assert [study.name for study in studies[:3]] == [
        "a-simclr-pets-as-published",
        "a-simclr-pets-as-published-but-head",
        "a-simclr-pets-as-published-but-frozen-random-layer",
    ]
    assert studies[-1].name == "a-simclr-pets"
    assert all({point for run in study.runs for point in run.points} == set(points) for study in studies)
    switches = [Switches.parse(study.search.space["parameters"]["protocol"]["choices"][0]) for study in studies]
    assert switches[0] == Switches(frozen_random_layer=True, training_mode=True, unseeded_split=True, last_epoch=True)
    assert switches[-1] == Switches()


@pytest.mark.parametrize("backbone", ["simclr", "vit", "torchvision:alexnet"])
@pytest.mark.parametrize("factor", [0.02, 0.25, 0.3, 1, 2])
def test_a_scaled_space_keeps_its_entries(backbone: str, factor: float) -> None:
    space = search_spaces.builtin(backbone, "default")

    scaled = scaled_space(space, factor)

    assert scaled.max_epochs == max(1, math.floor(space.max_epochs * factor + 0.5))
    assert len(scaled.enqueue) == len(space.enqueue)


SPEED = Speed(training_s=0.01, judging_s=0.002, images=64, device="a card")


def test_hours_count_every_pass_over_the_images() -> None:
    experiment = PAPER.only(["resnet18"])
    studies = planned(experiment)
    speeds: dict[tuple[str, FreezeMode], Speed] = {("resnet18", "none"): SPEED, ("resnet18", "backbone"): SPEED}
    images = Images(train=2760, validation=920, test=3669, classes=37)

    (cost,) = costs(studies, images, speeds, 1)
    assert cost.hours is not None

    tuned = 150 * (2760 * 0.01 + 920 * 0.002)
    frozen = (2760 + 920) * 0.002
    read = 6 * 3669 * 0.002
    assert cost.hours == pytest.approx((tuned + frozen + read) / 3600)
    assert (cost.runs, cost.epochs) == (4, 200)
    published = plan(experiment, [PAPER.protocol], study="p", dataset="pets", seeds=1, weights={})
    assert cost.hours is not None
    assert (costs(published, images, speeds, 1)[0].hours or 0) > 1.3 * cost.hours
    assert costs(studies, images, speeds, 2)[0].hours == pytest.approx(cost.hours / 2)
    assert study_hours(60, 50, images, speeds, "resnet18", 1) == pytest.approx(3000 * tuned / 150 / 3600)
    assert modes(studies) == {("resnet18", "none"): 64, ("resnet18", "backbone"): 64}


def test_without_images_there_are_runs_but_no_hours() -> None:
    (cost,) = costs(planned(PAPER.only(["vit"])), None, {}, 1)

    assert (cost.runs, cost.hours) == (4, None)
