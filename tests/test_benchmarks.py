"""The benchmarks measure what they say they do."""

import pytest

from benchmarks import placement, search
from benchmarks.driver import BLOCKS, reports_per_second, seconds_per_trial
from benchmarks.placement import CLUSTERS, FIRST_COME, OWN, WAYS, Free, Simulation, draw_trials
from benchmarks.search import TRIALS, Own, Usual, epochs_to, looked_up, replay, table
from benchmarks.search_table import BATCH_SIZES, EPOCHS, LEARNING_RATES
from benchmarks.study import Cost, ratios, with_whole
from hpo.machines.placement import Share
from trainables.config import FREEZE_MODES, PAPER_BACKBONES


def test_the_table_holds_a_whole_curve_for_every_point() -> None:
    assert len(table()) == len(LEARNING_RATES) * len(BATCH_SIZES) * len(FREEZE_MODES)
    assert {len(curve) for curve in table().values()} == {EPOCHS}


def test_a_learning_rate_is_looked_up_at_the_nearest_point() -> None:
    params = {"learning_rate": 9.9e-3, "batch_size": 16, "freeze_mode": "none"}

    assert looked_up(params) == table()[1e-2, 16, "none"]


def test_without_asha_every_epoch_of_every_trial_is_trained() -> None:
    way = Own(0, enqueue=False, sampler="random", asha=False)

    curve = replay(way)

    assert len(curve) == sum(way.suggest(number)["epochs"] for number in range(TRIALS))
    assert curve == sorted(curve)


@pytest.mark.parametrize("way", [Own, Usual])
def test_asha_trains_fewer_epochs_and_a_seed_repeats_itself(way: type[Own] | type[Usual]) -> None:
    curve = replay(way(1))

    assert TRIALS < len(curve) < TRIALS * 30
    assert curve == replay(way(1))
    assert curve[-1] <= max(max(points) for points in search.table().values())


def test_epochs_are_counted_up_to_the_goal() -> None:
    assert epochs_to([0.1, 0.5, 0.5, 0.9], 0.5) == 2
    assert epochs_to([0.1], 0.5) == float("inf")


def test_ratios_are_taken_within_a_repetition() -> None:
    def costs(*seconds: float) -> list[Cost]:
        return [Cost(wall_s=one, cpu_s=one, peak_mb=one, images=1) for one in seconds]

    results = {
        ("backbone", "hpo"): costs(1, 2),
        ("backbone", "usual"): costs(10, 30),
        ("none", "hpo"): costs(4, 3),
        ("none", "usual"): costs(10, 20),
    }

    assert ratios(results, "backbone", "usual") == [10, 15]
    assert ratios(with_whole(results), "whole", "usual") == [4, 10]


@pytest.mark.slow
def test_the_drivers_benchmark_runs_real_studies() -> None:
    assert len(seconds_per_trial(2 * BLOCKS, "random")) == BLOCKS
    assert reports_per_second(5) > 0


@pytest.mark.parametrize("way", WAYS)
def test_a_simulated_card_never_holds_more_than_itself_and_every_trial_runs_or_fails(way: str) -> None:
    cards = next(iter(CLUSTERS.values()))
    trials = draw_trials(0, 140)

    outcome = Simulation(trials, cards, WAYS[way](cards)).run()

    assert len(outcome.runs) + outcome.failed == len(trials)
    assert 0 < outcome.idle_before_end <= outcome.idle < 1
    for run in outcome.runs:
        beside = [one for one in outcome.runs if one.card == run.card and one.began <= run.began < one.ended]
        assert sum(one.share.gpus for one in beside) <= 1
        assert sum(one.share.vram_gb for one in beside) <= cards[run.card].gb


def test_first_come_is_first_served_and_only_hpo_splits_what_no_card_holds() -> None:
    cards = next(iter(CLUSTERS.values()))
    trials = draw_trials(0)

    first, own = (Simulation(trials, cards, WAYS[way](cards)).run() for way in (FIRST_COME, OWN))

    began = [run.began for run in sorted(first.runs, key=lambda run: trials.index(run.trial))]
    assert began == sorted(began)
    assert first.failed > own.failed == 0


def test_a_simulated_trial_goes_where_ray_puts_it() -> None:
    cards = next(iter(CLUSTERS.values()))
    hpo, free = WAYS[OWN](cards), [Free(12, 1, 12), Free(16, 1, 8)]

    # Seen with Ray 2.60 on two nodes with these resources.
    assert hpo.pick(free, Share(12, 1, 8)) == 0
    free[0].take(Share(3, 0.25, 2))
    assert hpo.pick(free, Share(3, 0.25, 2)) == 1


def test_the_memory_of_every_paper_backbone_is_known() -> None:
    assert set(placement.needs()) == {(backbone, mode) for backbone in PAPER_BACKBONES for mode in FREEZE_MODES}
