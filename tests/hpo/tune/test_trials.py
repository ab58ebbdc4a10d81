"""What is handed out, recorded and handed out again while a study runs; the ledger is a real one, Ray is not needed."""

import dataclasses
from base64 import b85encode
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from hpo.errors import DeadEndError, HpoError
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import Assignment
from hpo.machines.checkpoints import CheckpointPlace
from hpo.machines.placement import Node, Placement, Slot, place
from hpo.paths import StudyPaths
from hpo.spec import RunOptions
from hpo.tune.searcher import LedgerSearch
from hpo.tune.trials import StudyRun, StudyTrials
from tests.makers import epoch, study_spec
from trainables.config import EpochResult, FreezeMode, MemoryNeed
from trainables.predictions import pack

SPACE = {
    "parameters": {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "batch_size": {"choices": [64, 256]},
        "epochs": 3,
        "freeze_mode": {"choices": ["none", "backbone"]},
    },
    "enqueue": [{"batch_size": 256, "freeze_mode": "none"}],
}
GIB = 2**30
SMALL = MemoryNeed(fixed_bytes=GIB, bytes_per_image=0.0, least_bytes=0)
HUGE = MemoryNeed(fixed_bytes=16 * GIB, bytes_per_image=0.0, least_bytes=0)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str, str | None]] = []

    def started(self, assignment: Assignment) -> None: ...

    def epoch(self, number: int, result: EpochResult, slot: Slot) -> None: ...

    def restarted(self, number: int, reason: str) -> None: ...

    def ended(self, number: int, state: str, error: str | None) -> None:
        self.ends.append((number, state, error))

    def retrained(self, result: EpochResult, epochs: int) -> None: ...


@pytest.fixture
def desktops() -> Placement:
    return place(RunOptions(trials=1), [Node(12, 1, 12), Node(16, 1, 8)])


def study(folder: Path, needs: dict[FreezeMode, MemoryNeed] | None = None, shared: bool = True) -> StudyTrials:
    return StudyTrials(run(folder, needs, shared))


def run(folder: Path, needs: dict[FreezeMode, MemoryNeed] | None = None, shared: bool = True) -> StudyRun:
    return StudyRun(
        ledger(folder),
        RunOptions(trials=4, max_failures=1),
        StudyPaths(folder, "s"),
        CheckpointPlace("s", str(folder / "checkpoints"), shared=shared),
        Heard(),
        needs or {},
    )


def ledger(folder: Path) -> Ledger:
    return ledgers.create(f"sqlite:///{folder / 'optuna.db'}", "s", study_spec(space=SPACE), RunOptions(trials=4), {})


def result(number: int, **changes: Any) -> dict[str, Any]:
    rest: dict[str, Any] = {"restarted": None, "micro_batch": None, "memory_gb": None}
    rest |= {"host": "10.0.0.2", "device": "a card", "card": "0"}
    return {**vars(epoch(number, number / 10, train_loss=1.0)), **rest, "epochs": 3, **changes}


def test_a_trial_goes_on_after_its_machine_was_lost_however_often(tmp_path: Path, desktops: Placement) -> None:
    trials = study(tmp_path)
    first = trials.hand_out(desktops)
    trials.record(0, result(1))

    for _ in range(5):
        trials.fail(0, "its machine is gone", lost=True)
        again = trials.hand_out(desktops)

        assert again.assignment.number == 0
        assert again.config["reported"] == 1
        assert again.config["trial"] == first.config["trial"]
    assert trials.left == 3
    assert trials.ledger.records()[0].state == "RUNNING"


def test_a_trial_that_fails_by_itself_is_tried_again_and_then_recorded(tmp_path: Path, desktops: Placement) -> None:
    trials = study(tmp_path)
    trials.hand_out(desktops)

    trials.fail(0, "ValueError: no", lost=False)
    assert trials.hand_out(desktops).assignment.number == 0
    trials.fail(0, "ValueError: no", lost=False)

    assert trials.left == 3
    assert trials.open == set()
    (record,) = trials.ledger.records()
    assert (record.state, record.error) == ("FAIL", "ValueError: no")


def test_what_fails_for_a_reason_outside_of_it_stops_the_study_and_stays_to_be_resumed(
    tmp_path: Path, desktops: Placement
) -> None:
    trials = study(tmp_path)
    trials.hand_out(desktops)
    trials.fail(0, "ValueError: its own", lost=False)
    for _ in range(3):
        trials.hand_out(desktops)
        trials.record(0, result(1))
        trials.fail(0, "its disk is gone", lost=False, outside=True)
    trials.hand_out(desktops)

    trials.fail(0, "its disk is gone", lost=False, outside=True)

    assert str(trials.failure) == "its disk is gone; fix that; continue with: hpo resume s"
    assert (trials.left, trials.open) == (0, set())
    assert [record.state for record in trials.ledger.records()] == ["RUNNING"]


def test_trials_that_optuna_has_in_its_queue_are_reported_and_no_other_is_drawn_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = study(tmp_path).ledger
    first.finish(first.ask().number, "PRUNED")
    optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'optuna.db'}").enqueue_trial({})

    drawn = []
    for _ in range(3):
        again = study(tmp_path).ledger
        drawn.append(again.ask())
        again.finish(drawn[-1].number, "PRUNED")

    assert "trials 1 were enqueued by Optuna itself, and are not run" in caplog.text
    assert [trial.number for trial in drawn] == [2, 3, 4]
    assert len({trial.params["learning_rate"] for trial in drawn}) == 3


def test_what_fits_on_no_card_is_never_started_and_is_reported(
    tmp_path: Path, desktops: Placement, caplog: pytest.LogCaptureFixture
) -> None:
    trials = study(tmp_path, {"none": HUGE, "backbone": SMALL})

    modes = {trials.hand_out(desktops).assignment.params["freeze_mode"] for _ in range(4)}

    assert modes == {"backbone"}
    assert [record.state for record in trials.ledger.records()] == ["RUNNING"] * 4
    warnings = [message for message in caplog.messages if "the largest card has 12.0" in message]
    assert warnings
    assert "freeze mode none needs 18.2 GB of GPU memory" in warnings[0]


def grid_study(folder: Path) -> tuple[StudyTrials, Heard]:
    """Return a study of a grid that is run, or run again: of four configurations one half fits on no card."""
    space = {
        "parameters": {
            "learning_rate": {"choices": [1e-3, 1e-4]},
            "batch_size": 64,
            "epochs": 3,
            "freeze_mode": {"choices": ["none", "backbone"]},
        }
    }
    spec = study_spec(space=space, sampler="grid", asha=False)
    created = ledgers.create(f"sqlite:///{folder / 'optuna.db'}", "grid", spec, RunOptions(trials=4), {})
    paths, place_of, heard = _rest(folder)
    needs: dict[FreezeMode, MemoryNeed] = {"none": HUGE, "backbone": SMALL}
    return StudyTrials(StudyRun(created, RunOptions(trials=4), paths, place_of, heard, needs)), heard


def test_what_of_a_grid_fits_on_no_card_fails_with_that_and_the_grid_continues(
    tmp_path: Path, desktops: Placement
) -> None:
    trials, heard = grid_study(tmp_path)
    # It was drawn, and then the run was killed.
    killed = trials.ledger.ask()
    trials, heard = grid_study(tmp_path)
    search = LedgerSearch([trials], desktops, None)
    ran = []

    for trial_id in map(str, range(4)):
        config = search.suggest(trial_id)
        if config is not None:
            ran.append(config["number"])
            search.started(trial_id)
            search.on_trial_complete(trial_id, result(1, epochs=1))

    assert killed.params["freeze_mode"] == "none"
    assert search.suggest("last") == "FINISHED"
    assert trials.failure is None
    records = trials.ledger.records()
    assert {one.number: (one.params["freeze_mode"], one.state) for one in records} == {
        number: ("backbone", "COMPLETE") if number in ran else ("none", "FAIL") for number in range(4)
    }
    assert {one.error for one in records if one.state == "FAIL"} == {
        "fits on none of these machines: freeze mode none needs 18.2 GB of GPU memory even with 2 images at a time, the"
        " largest card has 12.0"
    }
    assert [number for number, *_ in heard.ends] == [0, 1, 2, 3]

    again, _ = grid_study(tmp_path)
    assert again.left == 0


def test_a_search_space_that_fits_nowhere_stops_with_that(tmp_path: Path, desktops: Placement) -> None:
    trials = study(tmp_path, {"none": HUGE, "backbone": HUGE})

    with pytest.raises(HpoError, match="none of 1000 configurations"):
        trials.hand_out(desktops)

    assert trials.ledger.records() == []


def test_measured_memory_is_kept_and_corrects_the_next_estimates(tmp_path: Path, desktops: Placement) -> None:
    needs: dict[FreezeMode, MemoryNeed] = {"none": SMALL, "backbone": SMALL}
    trials = study(tmp_path, needs)
    first = trials.hand_out(desktops)
    assert first.fit.share.vram_gb == 8

    trials.record(0, result(1, memory_gb=9.0))
    trials.record(0, result(2, memory_gb=8.5))
    trials.complete(0, result(3, memory_gb=8.5), stopping=False)

    (record,) = trials.ledger.records()
    assert record.memory_gb == {"estimated": 1.0, "measured": 9.0}
    whole = [handed for handed in (trials.hand_out(desktops) for _ in range(3)) if handed.fit.share.gpus == 1]
    assert {handed.fit.share.vram_gb for handed in whole} <= {12}
    again = StudyTrials(StudyRun(ledger(tmp_path), RunOptions(trials=4), *_rest(tmp_path), needs))
    again_whole = [handed for handed in (again.hand_out(desktops) for _ in range(3)) if handed.fit.share.gpus == 1]
    assert len(again_whole) == len(whole)
    assert {handed.fit.share.vram_gb for handed in again_whole} <= {12}


def _rest(folder: Path) -> tuple[StudyPaths, CheckpointPlace, Heard]:
    return StudyPaths(folder, "s"), CheckpointPlace("s", str(folder / "checkpoints"), shared=True), Heard()


def test_a_checkpoint_that_one_machine_has_draws_its_trial_there(tmp_path: Path, desktops: Placement) -> None:
    trials = study(tmp_path, shared=False)
    fresh = trials.hand_out(desktops)
    trials.record(0, result(1))
    trials.fail(0, "ValueError: once", lost=False)

    again = trials.hand_out(desktops)

    assert trials.wants_host(fresh.assignment) is None
    assert trials.wants_host(again.assignment) == "10.0.0.2"
    assert study(tmp_path).wants_host(again.assignment) is None


def test_a_machine_learns_which_checkpoints_it_may_drop(tmp_path: Path, desktops: Placement) -> None:
    trials = study(tmp_path, shared=False)
    trials.hand_out(desktops)
    trials.complete(0, result(1), stopping=False)

    assert trials.hand_out(desktops).config["ended"] == (0,)


def test_a_trial_that_the_end_of_the_run_stops_stays_for_the_next(tmp_path: Path, desktops: Placement) -> None:
    trials = study(tmp_path)
    trials.hand_out(desktops)

    trials.complete(0, result(1), stopping=True)

    assert trials.open == set()
    assert [record.number for record in ledger(tmp_path).adopt_interrupted()] == [0]


def other(folder: Path, needs: dict[FreezeMode, MemoryNeed]) -> StudyTrials:
    """Return another study in the same database."""
    created = ledgers.create(
        f"sqlite:///{folder / 'optuna.db'}", "other", study_spec(space=SPACE), RunOptions(trials=4), {}
    )
    paths, place_of, heard = _rest(folder)
    return StudyTrials(StudyRun(created, RunOptions(trials=4), paths, place_of, heard, needs))


def test_a_study_that_fits_nowhere_keeps_no_other_from_running(tmp_path: Path, desktops: Placement) -> None:
    hopeless = study(tmp_path, {"none": HUGE, "backbone": HUGE})
    sound = other(tmp_path, {"none": SMALL, "backbone": SMALL})
    search = LedgerSearch([hopeless, sound], desktops, None)

    assert search.suggest("a") is None
    config = search.suggest("b")

    assert config["study"] == "other"
    assert "none of 1000 configurations" in str(hopeless.failure)
    assert sound.failure is None


def test_one_studys_trials_follow_the_others_and_then_the_run_is_over(tmp_path: Path, desktops: Placement) -> None:
    first, second = study(tmp_path), other(tmp_path, {})
    search = LedgerSearch([first, second], desktops, None)
    ran = []

    for trial_id in map(str, range(8)):
        config = search.suggest(trial_id)
        ran.append(config["study"])
        search.started(trial_id)
        search.on_trial_complete(trial_id, result(1, epochs=1))

    assert ran == ["s"] * 4 + ["other"] * 4
    assert search.suggest("last") == "FINISHED"


def test_trials_that_wait_for_a_card_that_is_gone_end_their_study_alone(tmp_path: Path, desktops: Placement) -> None:
    ten = MemoryNeed(fixed_bytes=9 * GIB, bytes_per_image=0.0, least_bytes=0)
    done, waiting = study(tmp_path), other(tmp_path, {"none": ten, "backbone": ten})
    search = LedgerSearch([done, waiting], desktops, None)
    for trial_id in map(str, range(4)):
        assert search.suggest(trial_id)["study"] == "s"
        search.started(trial_id)
        search.on_trial_complete(trial_id, result(1, epochs=1))
    assert search.suggest("a")["resources"].vram_gb == 12

    search.stop_if_nothing_can_start()
    search.placement = place(RunOptions(trials=1), [Node(16, 1, 8)])

    with pytest.raises(DeadEndError, match="wait for a card of 12 GB, and the largest that is left has 8 GB"):
        search.stop_if_nothing_can_start()
    assert "8 GB; continue with: hpo resume " in str(waiting.failure)
    assert done.failure is None


def test_a_run_goes_on_until_what_was_lost_has_ended(tmp_path: Path, desktops: Placement) -> None:
    search = LedgerSearch([study(tmp_path)], desktops, None)
    numbers = [search.suggest(trial_id)["number"] for trial_id in ("a", "b")]
    for trial_id in ("a", "b"):
        search.started(trial_id)

    search.fail("a", "its node has died", lost=True)

    assert search.suggest("c")["number"] == numbers[0]


@pytest.mark.parametrize(
    "given", ["no predictions", pack(np.arange(3)), pack(np.array([0, 1, 2, 9])), b85encode(b"x").decode()]
)
def test_predictions_that_are_none_of_the_validation_images_are_left_out(
    given: str, tmp_path: Path, desktops: Placement, caplog: pytest.LogCaptureFixture
) -> None:
    splits = {"validation": 4, "classes": ["a", "b", "c"]}
    spec = study_spec(space={"parameters": {"epochs": 3, "rate": 0.5}}, trainable="mine:train")
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    own = dataclasses.replace(run(tmp_path), ledger=ledgers.create(url, "own", spec, RunOptions(trials=1), splits))
    trials = StudyTrials(own)
    fitting = pack(np.array([0, 1, 2, 2]))
    handout = trials.hand_out(desktops)

    trials.record(0, result(1, val_predictions=fitting))
    trials.record(0, result(2, val_predictions=given))
    trials.record(0, result(3, val_predictions=given))

    (record,) = own.ledger.records()
    assert record.val_predictions == fitting
    assert len(record.curve) == 3
    assert [one.getMessage().partition(" yields")[0] for one in caplog.records] == ["study own: mine:train"]
    assert handout.fit.share == desktops.whole
    assert handout.fit.micro_batch is None
