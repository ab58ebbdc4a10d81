"""A final model is checked before it looks at test."""

from hpo.final.retrain import fault
from hpo.ledger.records import TrialRecord
from tests.makers import epoch
from trainables.config import TrainedModel

CHOSEN = TrialRecord(4, "COMPLETE", {}, (epoch(1, 0.7), epoch(2, 0.9), epoch(3, 0.8)), None, None, None, None)


def model(accuracy: float, *, is_finite: bool = True) -> TrainedModel:
    return TrainedModel(model=b"", accuracy=accuracy, is_finite=is_finite)


def test_a_model_that_learned_what_its_trial_did_is_worth_a_look() -> None:
    assert fault(model(0.99), CHOSEN) is None
    assert fault(model(0.81), CHOSEN) is None


def test_a_model_that_is_far_below_its_trial_is_not() -> None:
    assert "classifies 0.5000 of the images that it learned from" in str(fault(model(0.5), CHOSEN))
    assert "0.9000" in str(fault(model(0.5), CHOSEN))


def test_a_trial_that_was_far_from_right_promises_little() -> None:
    poor = TrialRecord(4, "COMPLETE", {}, (epoch(1, 0.32),), None, None, None, None)

    assert fault(model(0.15), poor) is None


def test_a_model_whose_loss_is_not_finite_is_not() -> None:
    assert fault(model(0.99, is_finite=False), CHOSEN) == "the retrain's loss is not finite"
