"""A trial's curves as a picture: a panel for what its trainable measured, and none for what it did not."""

import dataclasses
import io

from PIL import Image

from hpo.ledger.records import TrialRecord
from hpo.views.curves import draw_curves, epochs_as_csv
from tests.makers import trial_record
from trainables.config import EpochResult


def size(record: TrialRecord) -> tuple[int, int]:
    return Image.open(io.BytesIO(draw_curves(record))).size


def test_panels_are_those_of_what_was_measured() -> None:
    usual = trial_record(0, "COMPLETE", [0.5, 0.6])
    curve = tuple(EpochResult(epoch=one, val_accuracy=0.5, extra={"f1": 0.1 * one, "note": "x"}) for one in (1, 2))
    places = (None, None)
    few = dataclasses.replace(usual, curve=curve, places=places)
    mixed = dataclasses.replace(
        usual, curve=(*usual.curve, dataclasses.replace(curve[0], epoch=3, train_loss=float("inf")))
    )

    assert size(few)[1] * 2 == size(usual)[1]
    assert size(mixed)[1] == size(usual)[1] + size(few)[1]
    assert epochs_as_csv(few).splitlines()[0].split(",")[-3:] == ["f1", "host", "device"]
