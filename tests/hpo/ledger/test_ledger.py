"""The ledger's promises, on a real SQLite file: each epoch once, each end once, interrupted trials adopted."""

import math
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial

from hpo.errors import UsageError
from hpo.ledger import ledger as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import best_records
from hpo.spec import RunOptions
from hpo.tune.rungs import EachStudysRungs, replay, scheduler, scheduler_trial
from tests.makers import SPACE, epoch, report, study_spec


def opened(folder: Path, **changes: Any) -> Ledger:
    """Open the study as a new process would."""
    options = RunOptions(trials=10)
    return ledgers.create(f"sqlite:///{folder / 'optuna.db'}", "study", study_spec(**changes), options, {"train": 1})


def test_an_interrupted_trial_is_adopted_with_its_number_parameters_and_epochs(tmp_path: Path) -> None:
    first = opened(tmp_path)
    begun = first.ask()
    report(first, begun.number, epoch(1))
    report(first, begun.number, epoch(2))

    second = opened(tmp_path)
    left = second.adopt_interrupted()
    adopted = second.ask()

    assert [record.number for record in left] == [begun.number]
    assert (adopted.number, adopted.params, adopted.reported) == (begun.number, begun.params, 2)
    assert second.ask().number == 1


def test_an_epoch_is_stored_once(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    trial = ledger.ask().number

    diverged = epoch(1, 0.25, train_loss=math.inf)  # no number that JSON has
    assert report(ledger, trial, diverged)
    assert not report(ledger, trial, epoch(1, 0.75))

    (record,) = ledger.records()
    assert [result.val_accuracy for result in record.curve] == [0.25]
    assert record.curve[0] == diverged
    assert (record.host, record.device) == ("10.0.0.1", "cpu")


def test_plain_optuna_sees_the_states_and_the_curves(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for state, error in (("COMPLETE", None), ("PRUNED", None), ("FAIL", "RuntimeError: out of luck")):
        trial = ledger.ask().number
        for number, accuracy in enumerate((0.5, 0.9, 0.7), start=1):
            report(ledger, trial, epoch(number, accuracy))
        ledger.finish(trial, state, error=error)  # type: ignore[arg-type]

    trials = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path / 'optuna.db'}").trials

    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert trials[0].value == 0.9
    assert trials[1].intermediate_values == {1: 0.5, 2: 0.9, 3: 0.7}
    assert trials[2].user_attrs["error"] == "RuntimeError: out of luck"
    assert ledger.records()[2].error == "RuntimeError: out of luck"


def test_an_end_that_a_kill_cut_short_is_completed(tmp_path: Path) -> None:
    first = opened(tmp_path)
    pruned, ran_out = first.ask(), first.ask()
    report(first, pruned.number, epoch(1))
    for number in range(1, ran_out.params["epochs"] + 1):
        report(first, ran_out.number, epoch(number))
    first.intend(pruned.number, "PRUNED", epoch=1)

    second = opened(tmp_path)

    assert second.adopt_interrupted() == []
    assert [record.state for record in second.records()] == ["PRUNED", "COMPLETE"]


def test_an_end_whose_last_epoch_was_never_stored_is_decided_again(tmp_path: Path) -> None:
    first = opened(tmp_path)
    trial = first.ask().number
    report(first, trial, epoch(1))
    first.intend(trial, "PRUNED", epoch=2)

    (left,) = opened(tmp_path).adopt_interrupted()

    assert (left.number, left.state, len(left.curve)) == (trial, "RUNNING", 1)


def test_the_enqueued_configuration_goes_first(tmp_path: Path) -> None:
    assert opened(tmp_path).ask().params == dict(SPACE.enqueue[0])


def test_draws_do_not_depend_on_interruptions(tmp_path: Path) -> None:
    def run(folder: Path, restart: bool) -> list[dict[str, Any]]:
        folder.mkdir()
        ledger, drawn = opened(folder), []
        for number in range(14):
            trial = ledger.ask()
            drawn.append(trial.params)
            report(ledger, trial.number, epoch(1, 1 / (1 + number)))
            ledger.finish(trial.number, "COMPLETE")
            if restart:
                ledger = opened(folder)
        return drawn

    assert run(tmp_path / "whole", False) == run(tmp_path / "parts", True)


def test_another_specification_is_refused_with_each_difference(tmp_path: Path) -> None:
    opened(tmp_path)

    with pytest.raises(UsageError) as caught:
        opened(tmp_path, seed=8, head="linear")

    assert "head: the study has projection, this run asks for linear" in str(caught.value)
    assert "seed: the study has 7, this run asks for 8" in str(caught.value)


def test_a_study_of_someone_elses_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    optuna.create_study(storage=url, study_name="theirs")

    opened(tmp_path)

    with pytest.raises(UsageError, match="was not made by hpo"):
        ledgers.open_study(url, "theirs")
    assert [study.name for study in ledgers.list_studies(url)] == ["study"]


def test_an_unknown_study_is_named_beside_the_known(tmp_path: Path) -> None:
    opened(tmp_path)

    with pytest.raises(UsageError, match="there is no study other; the studies here are: study"):
        ledgers.open_study(f"sqlite:///{tmp_path / 'optuna.db'}", "other")
    with pytest.raises(UsageError, match="there are no studies"):
        ledgers.open_study(f"sqlite:///{tmp_path / 'none.db'}", "other")
    assert not (tmp_path / "none.db").exists()


def test_a_creation_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    optuna.create_study(storage=f"sqlite:///{tmp_path / 'optuna.db'}", study_name="study", direction="maximize")

    assert opened(tmp_path).spec == study_spec()


def test_a_lower_target_takes_no_trial_away(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for _ in range(12):
        ledger.finish(ledger.ask().number, "PRUNED")

    assert opened(tmp_path).run_options.trials == 12


def test_looks_at_test_data_are_counted(tmp_path: Path) -> None:
    opened(tmp_path).count_test_look()
    opened(tmp_path).count_test_look()

    assert opened(tmp_path).test_looks == 2


def test_the_best_is_the_highest_best_epoch_of_the_complete_trials(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for state, accuracies in (("COMPLETE", (0.5, 0.8)), ("PRUNED", (0.9,)), ("COMPLETE", (0.85, 0.1))):
        trial = ledger.ask().number
        for number, accuracy in enumerate(accuracies, start=1):
            report(ledger, trial, epoch(number, accuracy))
        ledger.finish(trial, state)  # type: ignore[arg-type]

    assert [record.number for record in best_records(ledger.records(), 5)] == [2, 0]


actions = st.lists(st.sampled_from(["ask", "report", "complete", "prune", "fail", "kill"]), max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=actions)
def test_whatever_is_killed_when_nothing_is_lost_or_doubled(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger = opened(folder)
    running: dict[int, int] = {}
    ends: dict[int, str] = {}
    for step in steps:
        if step == "kill":
            ledger = opened(folder)
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

    records = opened(folder).records()

    assert {record.number: record.state for record in records if record.state != "RUNNING"} == ends
    assert {record.number for record in records if record.state == "RUNNING"} == running.keys()
    assert all([result.epoch for result in r.curve] == list(range(1, len(r.curve) + 1)) for r in records)


def test_replayed_rungs_are_those_of_the_run_itself(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
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
    replay(again, opened(tmp_path).records())

    rungs = [bracket._rungs for bracket in again._brackets]  # type: ignore[attr-defined]
    assert rungs == [bracket._rungs for bracket in live._brackets]  # type: ignore[attr-defined]
    assert len(rungs[0][-1][1]) == 4


def test_of_the_trials_that_wait_the_first_starts_next(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
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
