"""The ledger's promises, on SQLite and on PostgreSQL: each epoch once, each end once, interrupted trials adopted."""

import dataclasses
import itertools
import math
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from sqlalchemy import NullPool, create_engine, event, text

from hpo.errors import HpoError, UsageError
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import best_records, count_states
from hpo.spec import RunOptions
from hpo.tune.rungs import EachStudysRungs, replay, scheduler, scheduler_trial
from tests.makers import SPACE, epoch, report, study_spec
from trainables.config import EpochResult
from trainables.predictions import TEST_PREDICTIONS


def opened(url: str, name: str = "study", **changes: Any) -> Ledger:
    """Open the study as a new process would."""
    ledger = ledgers.create(url, name, study_spec(**changes), RunOptions(trials=10), {"train": 1})
    ledger.own()
    return ledger


def dump(url: str) -> list[Any]:
    """Return all that the database holds of studies and trials, but for the order."""
    kept = ("study_user_attributes", "trials", "trial_user_attributes", "trial_values", "trial_intermediate_values")
    with create_engine(url, poolclass=NullPool).connect() as connection:
        rows = [tuple(row) for name in kept for row in connection.execute(text(f"SELECT * FROM {name}"))]
    return sorted(rows, key=repr)


def test_an_interrupted_trial_is_adopted_with_its_number_parameters_and_epochs(url: str) -> None:
    first = opened(url)
    begun = first.ask()
    report(first, begun.number, epoch(1))
    report(first, begun.number, epoch(2))

    second = opened(url)
    left = second.adopt_interrupted()
    adopted = second.ask()

    assert [record.number for record in left] == [begun.number]
    assert (adopted.number, adopted.params, adopted.reported) == (begun.number, begun.params, 2)
    assert second.ask().number == 1


def test_the_times_of_a_trial_and_of_its_epochs_are_kept(url: str) -> None:
    begun = time.time()
    ledger = opened(url)
    trial = ledger.ask().number
    report(ledger, trial, epoch(1))
    report(ledger, trial, epoch(2))
    ledger.finish(trial, "COMPLETE")

    (record,) = opened(url).records()

    first, second = record.reported_at
    assert first is not None
    assert second is not None
    assert record.started_at is not None
    assert record.ended_at is not None
    # Optuna's times have microseconds, an epoch's three digits.
    times = [begun, record.started_at, first, second, record.ended_at, time.time()]
    assert all(one <= other + 0.001 for one, other in itertools.pairwise(times))


def test_an_epoch_is_kept_as_its_trainable_measured_it(url: str) -> None:
    extra: dict[str, float | str] = {"f1": 0.25, "lost": math.nan, "note": "nan", "packed": "eJwDAAAAAAE="}
    plain = EpochResult(epoch=1, val_accuracy=0.5, extra=extra)
    ledger = opened(url)
    trial = ledger.ask().number
    report(ledger, trial, plain)
    report(ledger, trial, epoch(2, train_loss=math.inf))

    first, second = opened(url).records()[0].curve

    assert dataclasses.replace(first, extra={}) == dataclasses.replace(plain, extra={})
    assert (first.extra["f1"], first.extra["note"], first.extra["packed"]) == (0.25, "nan", "eJwDAAAAAAE=")
    assert math.isnan(float(first.extra["lost"]))
    assert (second.train_loss, second.extra) == (math.inf, {})


def test_an_epoch_is_stored_once(url: str) -> None:
    ledger = opened(url)
    trial = ledger.ask().number

    diverged = epoch(1, 0.25, train_loss=math.inf)  # no number that JSON has
    assert report(ledger, trial, diverged)
    assert not report(ledger, trial, epoch(1, 0.75))

    (record,) = ledger.records()
    assert [result.val_accuracy for result in record.curve] == [0.25]
    assert record.curve[0] == diverged
    assert (record.host, record.device) == ("10.0.0.1", "cpu")


def test_plain_optuna_sees_the_states_and_the_curves(url: str) -> None:
    ledger = opened(url)
    for state, error in (("COMPLETE", None), ("PRUNED", None), ("FAIL", "RuntimeError: out of luck")):
        trial = ledger.ask().number
        for number, accuracy in enumerate((0.5, 0.9, 0.7), start=1):
            report(ledger, trial, epoch(number, accuracy))
        ledger.finish(trial, state, error=error)  # type: ignore[arg-type]

    trials = optuna.load_study(study_name="study", storage=url).trials

    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert trials[0].value == 0.9
    assert trials[1].intermediate_values == {1: 0.5, 2: 0.9, 3: 0.7}
    assert trials[2].user_attrs["error"] == "RuntimeError: out of luck"
    assert ledger.records()[2].error == "RuntimeError: out of luck"


def test_an_end_that_a_kill_cut_short_is_completed(url: str) -> None:
    first = opened(url)
    pruned, ran_out = first.ask(), first.ask()
    report(first, pruned.number, epoch(1))
    for number in range(1, ran_out.params["epochs"] + 1):
        report(first, ran_out.number, epoch(number))
    first.intend(pruned.number, "PRUNED", epoch=1)

    second = opened(url)

    assert second.adopt_interrupted() == []
    assert [record.state for record in second.records()] == ["PRUNED", "COMPLETE"]


def test_an_end_whose_last_epoch_was_never_stored_is_decided_again(url: str) -> None:
    first = opened(url)
    trial = first.ask().number
    report(first, trial, epoch(1))
    first.intend(trial, "PRUNED", epoch=2)

    (left,) = opened(url).adopt_interrupted()

    assert (left.number, left.state, len(left.curve)) == (trial, "RUNNING", 1)


def test_any_text_of_an_error_is_kept(url: str) -> None:
    text = "diverged: \N{SNOWMAN} ' % \\ \""
    ledger = opened(url)
    ledger.finish(ledger.ask().number, "PRUNED", error=text)

    (record,) = opened(url).records()

    assert (record.state, record.error) == ("PRUNED", text)


@pytest.mark.parametrize(
    "write",
    [
        lambda ledger: report(ledger, 0, epoch(2)),
        lambda ledger: ledger.intend(0, "PRUNED", epoch=2),
        lambda ledger: ledger.finish(0, "COMPLETE"),
        lambda ledger: ledger.remember_micro_batch(0, 4),
        lambda ledger: ledger.note_memory(0, estimated_gb=1.0, measured_gb=2.0),
        lambda ledger: ledger.ask(),
        lambda ledger: ledger.count_test_look(),
        lambda ledger: setattr(ledger, "final", {"test_accuracy": 1.0}),
        lambda ledger: setattr(ledger, "run_options", RunOptions(trials=99)),
    ],
    ids=["report", "intend", "finish", "micro_batch", "memory", "ask", "test_look", "final", "run_options"],
)
def test_a_writer_whose_study_another_took_over_writes_nothing(write: Callable[[Ledger], Any], url: str) -> None:
    first = opened(url)
    report(first, first.ask().number, epoch(1))
    opened(url)
    before = dump(url)

    with pytest.raises(HpoError, match=f"study study was taken over by process {os.getpid()} on ") as caught:
        write(first)

    assert len(str(caught.value).splitlines()) == 1
    assert "`hpo resume study` continues" in str(caught.value)
    assert dump(url) == before


def test_a_take_over_between_look_and_write_is_found(url: str) -> None:
    first = opened(url)
    trial = first.ask().number
    report(first, trial, epoch(1))
    second = ledgers.open_study(url, "study")
    first.hold = second.own

    with pytest.raises(HpoError, match="was taken over"):
        report(first, trial, epoch(2))

    assert [len(record.curve) for record in second.records()] == [1]


def test_a_write_is_waited_for_by_a_take_over_and_seen_by_it(url: str) -> None:
    first, second = opened(url), ledgers.open_study(url, "study")
    engine = first._storage._backend.engine  # type: ignore[attr-defined]
    taker = threading.Thread(target=second.own)
    stamped: list[bool] = []

    def take_over_behind_the_look(*execution: Any) -> None:
        if not stamped and execution[-2].isinsert:
            taker.start()
            taker.join(0.5)
            stamped.append(not taker.is_alive())

    event.listen(engine, "after_cursor_execute", take_over_behind_the_look)
    trial = first.ask().number
    taker.join(60)

    assert stamped == [False]
    assert second.n_trials == 1
    with pytest.raises(HpoError, match="was taken over"):
        report(first, trial, epoch(1))


def test_a_writer_whose_study_was_deleted_says_so(url: str) -> None:
    first = opened(url)
    trial = first.ask().number
    ledgers.delete(url, "study")

    with pytest.raises(HpoError, match="study study was deleted or renamed while it ran here"):
        report(first, trial, epoch(1))


def test_the_machines_of_a_trial_that_moved_are_all_kept(url: str) -> None:
    first = opened(url)
    trial = first.ask().number
    first.report(trial, epoch(1), host="10.0.0.2", device="a card")
    first.report(trial, epoch(2), host="10.0.0.1", device="cpu")
    second = opened(url)
    second.adopt_interrupted()
    assert second.ask().host == "10.0.0.1"
    second.report(trial, epoch(3), host="10.0.0.2", device="a card")

    (record,) = second.records()

    assert record.places == (("10.0.0.2", "a card"), ("10.0.0.1", "cpu"), ("10.0.0.2", "a card"))
    assert record.hosts == ("10.0.0.2", "10.0.0.1")
    assert (record.host, record.device) == ("10.0.0.2", "a card")


def test_the_enqueued_configuration_goes_first(url: str) -> None:
    assert opened(url).ask().params == dict(SPACE.enqueue[0])


def test_draws_do_not_depend_on_interruptions(url: str) -> None:
    def run(name: str, restart: bool) -> list[dict[str, Any]]:
        ledger, drawn = opened(url, name), []
        for number in range(14):
            trial = ledger.ask()
            drawn.append(trial.params)
            report(ledger, trial.number, epoch(1, 1 / (1 + number)))
            ledger.finish(trial.number, "COMPLETE")
            if restart:
                ledger = opened(url, name)
        return drawn

    assert run("whole", False) == run("parts", True)


def test_another_specification_is_refused_with_each_difference(url: str) -> None:
    opened(url)

    with pytest.raises(UsageError) as caught:
        opened(url, seed=8, head="linear")

    assert "head: the study has projection, this run asks for linear" in str(caught.value)
    assert "seed: the study has 7, this run asks for 8" in str(caught.value)


def test_a_study_of_someone_elses_is_left_alone(url: str) -> None:
    optuna.create_study(storage=url, study_name="theirs")

    opened(url)

    with pytest.raises(UsageError, match="was not made by hpo"):
        ledgers.open_study(url, "theirs")
    assert [study.name for study in ledgers.list_studies(url)] == ["study"]


def test_an_unknown_study_is_named_beside_the_known(url: str) -> None:
    opened(url)

    with pytest.raises(UsageError, match="there is no study other; the studies here are: study"):
        ledgers.open_study(url, "other")


def test_where_no_study_was_is_still_no_database(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no studies"):
        ledgers.open_study(f"sqlite:///{tmp_path / 'none.db'}", "other")

    assert not (tmp_path / "none.db").exists()


def test_a_creation_that_was_cut_short_is_completed(url: str) -> None:
    optuna.create_study(storage=url, study_name="study", direction="maximize")

    assert opened(url).spec == study_spec()


def test_a_lower_target_removes_no_trial(url: str) -> None:
    ledger = opened(url)
    for _ in range(12):
        ledger.finish(ledger.ask().number, "PRUNED")

    assert opened(url).run_options.trials == 12


def test_looks_at_test_data_are_counted(url: str) -> None:
    opened(url).count_test_look()
    opened(url).count_test_look()

    assert opened(url).test_looks == 2


def test_an_epoch_that_carries_test_predictions_is_one_look_however_often_it_is_reported(url: str) -> None:
    first = opened(url)
    number = first.ask().number
    report(first, number, epoch(1, extra={TEST_PREDICTIONS: "packed"}))
    report(first, number, epoch(2))

    second = opened(url)
    second.adopt_interrupted()
    second.ask()
    for again in (epoch(1, extra={TEST_PREDICTIONS: "packed"}), epoch(2), epoch(3, extra={TEST_PREDICTIONS: "packed"})):
        report(second, number, again)

    assert opened(url).test_looks == 2


def test_the_best_is_the_highest_best_epoch_of_the_complete_trials(url: str) -> None:
    ledger = opened(url)
    for state, accuracies in (("COMPLETE", (0.5, 0.8)), ("PRUNED", (0.9,)), ("COMPLETE", (0.85, 0.1))):
        trial = ledger.ask().number
        for number, accuracy in enumerate(accuracies, start=1):
            report(ledger, trial, epoch(number, accuracy))
        ledger.finish(trial, state)  # type: ignore[arg-type]

    assert [record.number for record in best_records(ledger.records(), 5)] == [2, 0]


actions = st.lists(st.sampled_from(["ask", "report", "complete", "prune", "fail", "kill"]), max_size=25)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=actions)
def test_whatever_is_killed_when_nothing_is_lost_or_doubled(steps: list[str], url: str) -> None:
    study = f"study-{secrets.token_hex(8)}"
    ledger = opened(url, study)
    running: dict[int, int] = {}
    ends: dict[int, str] = {}
    for step in steps:
        if step == "kill":
            ledger = opened(url, study)
            assert sorted(record.number for record in ledger.adopt_interrupted()) == sorted(running)
            adopted = [ledger.ask() for _ in running]
            assert {trial.number: trial.reported for trial in adopted} == running
        elif step == "ask":
            running[ledger.ask().number] = 0
        elif running:
            number = min(running)
            if step == "report" and running[number] < 2:
                running[number] += 1
                report(ledger, number, epoch(running[number], 0.1 * running[number]))
            elif step in ("complete", "prune", "fail") and running[number]:
                state = {"complete": "COMPLETE", "prune": "PRUNED", "fail": "FAIL"}[step]
                ledger.finish(number, state)  # type: ignore[arg-type]
                ends[number] = state
                del running[number]

    records = opened(url, study).records()

    assert {record.number: record.state for record in records if record.state != "RUNNING"} == ends
    assert {record.number for record in records if record.state == "RUNNING"} == running.keys()
    assert all([result.epoch for result in r.curve] == list(range(1, len(r.curve) + 1)) for r in records)


def test_replayed_rungs_are_those_of_the_run_itself(url: str) -> None:
    ledger = opened(url)
    live = scheduler(ledger.spec.search, 9)
    for accuracies in ((0.3, 0.4, 0.5), (0.2,), (0.6, 0.7), (0.1,)):
        number = ledger.ask().number
        trial = scheduler_trial(number)
        controller: Any = None
        live.on_trial_add(controller, trial)
        for index, accuracy in enumerate(accuracies, start=1):
            report(ledger, number, epoch(index, accuracy))
            live.on_trial_result(controller, trial, {"epoch": index, "val_accuracy": accuracy})
        if number != 2:
            live.on_trial_complete(controller, trial, {"epoch": index, "val_accuracy": accuracies[-1]})
            ledger.finish(number, "PRUNED")

    again = scheduler(ledger.spec.search, 9)
    replay(again, opened(url).records())

    rungs = [bracket._rungs for bracket in again._brackets]  # type: ignore[attr-defined]
    assert rungs == [bracket._rungs for bracket in live._brackets]  # type: ignore[attr-defined]
    assert len(rungs[0][-1][1]) == 4


def test_of_the_trials_that_wait_the_first_starts_next(url: str) -> None:
    ledger = opened(url)
    rungs, controller = EachStudysRungs({ledger.name: scheduler(ledger.spec.search, 9)}), cast(Any, None)
    trials = [Trial("empty", config={"study": ledger.name, "number": number}, stub=True) for number in range(4)]
    for trial in trials:
        rungs.on_trial_add(controller, trial)

    chosen = []
    for started in (trials[1], trials[0], trials[2], trials[3]):
        chosen += [rungs.choose_trial_to_run(controller), rungs.choose_trial_to_run(controller)]
        started.set_status(Trial.RUNNING)  # type: ignore[no-untyped-call]

    assert chosen == [trials[0]] * 4 + [trials[2]] * 2 + [trials[3]] * 2
    assert rungs.choose_trial_to_run(controller) is None


def test_the_counts_and_the_best_are_those_of_the_records(url: str) -> None:
    ledger = opened(url)
    assert (ledger.count_states(), ledger.best_value) == (count_states([]), None)
    for state in ("COMPLETE", "PRUNED", "FAIL", "COMPLETE", "RUNNING"):
        trial = ledger.ask().number
        for number, accuracy in enumerate((0.5, 0.6 + trial / 20, 0.7), start=1):
            report(ledger, trial, epoch(number, accuracy))
        if state != "RUNNING":
            ledger.finish(trial, state)  # type: ignore[arg-type]
    optuna.load_study(study_name="study", storage=url).enqueue_trial({"learning_rate": 1e-3})

    seen = ledgers.open_study(url, "study")

    records = seen.records()
    best = best_records(records, 1)[0].best
    assert seen.count_states() == count_states(records) == {"COMPLETE": 2, "PRUNED": 1, "FAIL": 1, "RUNNING": 1}
    assert best is not None
    assert seen.best_value == best.val_accuracy
    assert (seen.n_trials, seen.enqueued_elsewhere) == (5, [5])
