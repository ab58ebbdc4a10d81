"""The time left: what must hold of any study, and cases that are worked out by hand."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.spec import SearchConfig
from hpo.views.summary import left_in_words
from hpo.views.time_left import (
    Plan,
    TimeLeft,
    TrialPace,
    best_pace,
    pace_of,
    retrain_left,
    retrain_ratio,
    rungs_of,
    time_left,
)
from tests.makers import trial_record

RUNGS = (2, 8)


@st.composite
def paces(draw: st.DrawFn) -> TrialPace:
    epochs = draw(st.integers(1, 20))
    state = draw(st.sampled_from(["COMPLETE", "PRUNED", "FAIL", "RUNNING"]))
    rungs = [rung for rung in RUNGS if rung < epochs]
    if state == "PRUNED" and not rungs:
        state = "COMPLETE"
    done = {
        "COMPLETE": epochs,
        "PRUNED": draw(st.sampled_from(rungs or [0])),
        "FAIL": draw(st.integers(0, epochs)),
        "RUNNING": draw(st.integers(0, epochs - 1)),
    }[state]
    return TrialPace(
        mode=draw(st.sampled_from(["none", "partial", "backbone"])),
        epochs=epochs,
        done=done,
        state=state,
        epoch_s=draw(st.floats(1e-3, 1e4)) if done else None,
        start_s=draw(st.none() | st.floats(0, 60)) if done else None,
        waited_s=draw(st.floats(0, 1e4)) if state == "RUNNING" else 0.0,
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    return Plan(
        to_come=draw(st.integers(0, 40) | st.just(2000)),
        slots=draw(st.integers(1, 5)),
        rungs=draw(st.sampled_from([(), RUNGS])),
        reduction_factor=draw(st.floats(1.5, 8)),
        retrained=draw(st.none() | paces()),
        retrain_ratio=draw(st.floats(1, 2)),
        idle_s=draw(st.floats(0, 100)),
    )


@settings(max_examples=60, deadline=None)
@given(trials=st.lists(paces(), max_size=30), plan=plans())
def test_whatever_a_study_did_its_time_left_is_a_time(trials: list[TrialPace], plan: Plan) -> None:
    left = time_left(trials, plan)

    if any(trial.epoch_s is not None and trial.state != "FAIL" for trial in trials):
        assert left is not None
        assert 0 <= left.low <= left.seconds <= left.high < float("inf")
        assert left == time_left(trials, plan)
    else:
        assert left is None


@settings(max_examples=40, deadline=None)
@given(trials=st.lists(paces(), min_size=1, max_size=10), plan=plans(), factor=st.floats(0.01, 100))
def test_a_machine_that_is_so_many_times_slower_takes_so_many_times_longer(
    trials: list[TrialPace], plan: Plan, factor: float
) -> None:
    def slower(trial: TrialPace) -> TrialPace:
        return dataclasses.replace(
            trial,
            epoch_s=None if trial.epoch_s is None else trial.epoch_s * factor,
            start_s=None if trial.start_s is None else trial.start_s * factor,
            waited_s=trial.waited_s * factor,
        )

    left = time_left(trials, plan)
    retrained = slower(plan.retrained) if plan.retrained else None
    longer = time_left(
        [slower(trial) for trial in trials],
        dataclasses.replace(plan, retrained=retrained, idle_s=plan.idle_s * factor),
    )

    assert (left is None) == (longer is None)
    if left is not None and longer is not None:
        assert longer.seconds == pytest.approx(left.seconds * factor, rel=1e-6, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(trials=st.lists(paces(), min_size=1, max_size=10), plan=plans())
def test_more_trials_to_come_take_no_less_time_and_more_slots_no_more(trials: list[TrialPace], plan: Plan) -> None:
    plan = dataclasses.replace(plan, to_come=min(plan.to_come, 100), retrained=None, idle_s=0.0)
    left = time_left(trials, plan)
    if left is None:
        return

    more = time_left(trials, dataclasses.replace(plan, to_come=plan.to_come * 3))
    wider = time_left(trials, dataclasses.replace(plan, slots=plan.slots * 4))

    assert more is not None
    assert wider is not None
    # Of few simulations the middle one may be another.
    assert more.seconds >= left.seconds * 0.9
    assert wider.seconds <= left.seconds * 1.1


def test_trials_that_are_all_alike_leave_no_doubt_but_about_the_pace() -> None:
    ended = TrialPace("none", epochs=5, done=5, state="COMPLETE", epoch_s=2.0, start_s=1.0)
    begun = dataclasses.replace(ended, done=2, state="RUNNING", waited_s=0.5)

    left = time_left([ended, ended, begun, begun], Plan(to_come=4, slots=2))

    # Three epochs but half a second, then two trials of eleven seconds in each slot, and the end.
    seconds = 5.5 + 22 + 0.3
    assert left is not None
    assert [left.low, left.seconds, left.high] == pytest.approx([0.681 * seconds, seconds, 1.469 * seconds], rel=0.02)


def test_one_running_trial_is_not_divided_by_the_slots() -> None:
    ended = TrialPace("none", epochs=10, done=10, state="COMPLETE", epoch_s=3.0, start_s=0.0)
    begun = dataclasses.replace(ended, done=4, state="RUNNING")

    left = time_left([*[ended] * 9, begun], Plan(to_come=0, slots=2))

    assert left is not None
    assert left.seconds == pytest.approx(18.0, rel=0.01)


def test_the_retrain_is_part_of_the_time_left() -> None:
    ended = TrialPace("none", epochs=5, done=5, state="COMPLETE", epoch_s=2.0, start_s=4.0)

    left = time_left([ended] * 3, Plan(to_come=0, slots=2, retrained=ended, retrain_ratio=1.5, idle_s=1.0))

    assert left is not None
    assert left.seconds == pytest.approx(5 * 2 * 1.5 + (0.4 + 0.3) * 4 - 1, rel=0.01)


def test_what_asha_stops_is_learned_for_each_freeze_mode() -> None:
    weak = TrialPace("backbone", epochs=100, done=2, state="PRUNED", epoch_s=1.0)
    strong = TrialPace("none", epochs=100, done=100, state="COMPLETE", epoch_s=1.0)
    plan = Plan(to_come=10, slots=1, rungs=(2,), reduction_factor=4.0)

    stopped = time_left([*[strong] * 5, *[weak] * 30, dataclasses.replace(weak, state="RUNNING")], plan)
    lives = time_left([*[weak] * 5, *[strong] * 30, dataclasses.replace(strong, state="RUNNING", done=0)], plan)

    assert stopped is not None
    assert lives is not None
    assert stopped.high < lives.low


def test_a_freeze_mode_without_an_epoch_is_taken_for_what_the_others_are() -> None:
    ended = TrialPace("none", epochs=5, done=5, state="COMPLETE", epoch_s=2.0)
    new = TrialPace("partial", epochs=5, done=0, state="RUNNING")

    left = time_left([ended, ended, new], Plan(to_come=0, slots=1))

    assert left is not None
    assert left.seconds == pytest.approx(10.0, rel=0.01)


def test_the_longest_of_many_trials_are_estimated_in_no_time() -> None:
    ended = TrialPace("none", epochs=5, done=5, state="COMPLETE", epoch_s=2.0, start_s=0.0)

    left = time_left([ended], Plan(to_come=100_000, slots=4))

    assert left is not None
    assert left.seconds == pytest.approx(100_000 * 10 / 4, rel=0.01)


def test_rungs_are_those_of_rays_asha() -> None:
    from ray.tune.schedulers import ASHAScheduler

    for grace, factor, longest in ((2, 4.0, 50), (1, 3.0, 9), (3, 2.5, 40), (5, 4.0, 5), (1, 1.5, 12)):
        search = SearchConfig(space={}, grace_period=grace, reduction_factor=factor)
        rays = ASHAScheduler(
            time_attr="epoch", metric="x", mode="max", grace_period=grace, reduction_factor=factor, max_t=longest
        )

        # Its highest rung may be at the last epoch, where nothing is left to stop.
        stops = {epoch for epoch in range(1, longest) for rung in rays._brackets[0]._rungs if -(-rung[0] // 1) == epoch}
        assert set(rungs_of(search, longest)) == stops, (grace, factor, longest)
    assert rungs_of(SearchConfig(space={}, asha=False), 50) == ()


def test_a_retrain_of_epochs_that_are_alike_leaves_no_doubt() -> None:
    assert retrain_left([0.0, 2.0, 4.0, 6.0], 3, 7.0) == TimeLeft(5.0, 5.0, 5.0)
    assert retrain_left([0.0, 2.0], 0, 3.0, closing_s=5.0).seconds == 4.0
    one = retrain_left([0.0, 2.0], 4, 2.0)
    assert one.low < one.seconds == 8.0 < one.high


def test_a_retrains_epoch_has_more_images_and_no_validation() -> None:
    assert retrain_ratio(75, 25) == pytest.approx(100 / (75 + 25 / 3))
    assert retrain_ratio(0, 0) == 1.0


def test_the_ledgers_records_give_the_pace() -> None:
    complete = trial_record(0, "COMPLETE", [0.5, 0.6], params={"freeze_mode": "partial", "epochs": 2}, seconds=3.0)
    running = trial_record(1, "RUNNING", [0.7], params={"freeze_mode": "none", "epochs": 8})

    assert pace_of(complete) == TrialPace("partial", epochs=2, done=2, state="COMPLETE", epoch_s=1.0, start_s=1.0)
    assert pace_of(running) == TrialPace("none", epochs=8, done=1, state="RUNNING", epoch_s=1.0)
    assert best_pace([complete, running]) == pace_of(complete)
    assert best_pace([running]) is None


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (TimeLeft(34, 20, 50), "about 34 s left (20 to 50 s)"),
        (TimeLeft(120, 60, 200), "about 2 min left (60 s to 3 min)"),
        (TimeLeft(7200, 3700, 10000), "about 2.0 h left (62 min to 2.8 h)"),
    ],
)
def test_the_time_left_is_said_with_its_range(left: TimeLeft, words: str) -> None:
    assert left_in_words(left) == words
