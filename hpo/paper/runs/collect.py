"""What ledgers have of an experiment's runs: the cells of its figures, and what its studies found."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hpo.ledger.ledger import Ledger
from hpo.ledger.records import TrialRecord, best_records
from hpo.paper.measured import Cell, StudyOutcome
from hpo.paper.runs.plan import PlannedStudy, Run
from trainables.config import EpochResult
from trainables.predictions import TEST_PREDICTIONS, unpack

logger = logging.getLogger(__name__)

_LABELS, _EPOCH = "test_labels", "test_epoch"


def cells(planned: Sequence[PlannedStudy], ledgers: Mapping[str, Ledger]) -> list[Cell]:
    """Return what was measured of the planned studies, as far as they have come.

    Args:
        planned: The studies.
        ledgers: Those that were run, by name; they have the planned search spaces.
    """
    found: list[Cell] = []
    for study in planned:
        ledger = ledgers.get(study.name)
        if ledger is None:
            continue
        records = ledger.records()
        for run in study.runs:
            record = next((one for one in records if run.params.items() <= one.params.items()), None)
            if record is not None:
                found += _of_run(study, run, record)
    return found


def _of_run(study: PlannedStudy, run: Run, record: TrialRecord) -> list[Cell]:
    found = []
    for point in run.points:
        curve = record.curve[: point.epochs]
        is_short = len(curve) < point.epochs
        diverged = is_short and bool(curve) and not curve[-1].is_finite and record.state != "RUNNING"
        # Earlier studies did not read test where a run diverged.
        if is_short and not (diverged and _EPOCH in curve[-1].extra):
            if record.state in ("PRUNED", "FAIL"):
                logger.warning(
                    "study %s: trial %d has no epoch %d (%s); `hpo delete %s` lets the command run it again",
                    study.name,
                    record.number,
                    point.epochs,
                    record.error,
                    study.name,
                )
            continue
        extra = curve[-1].extra
        epoch = int(extra[_EPOCH])
        found.append(
            Cell(
                point=point,
                seed=study.seed,
                protocol=study.protocol,
                labels=unpack(str(extra[_LABELS])),
                predicted=unpack(str(extra[TEST_PREDICTIONS])),
                val_accuracy=curve[epoch - 1].val_accuracy,
                epoch=epoch,
                gpu_seconds=_seconds(curve),
                diverged=diverged,
            )
        )
    return found


def outcome(ledger: Ledger) -> StudyOutcome | None:
    """Return what a study of a backbone found; None: it has no final model yet, or one that learned from more."""
    best = best_records(ledger.records(), 1)
    final: dict[str, Any] | None = ledger.final
    if final is None or not best:
        return None
    if final["on"] != "train":
        logger.warning(
            "study %s is left out of the page: its final model learned from the validation images too, and a grid's"
            " runs did not; `hpo retrain %s --on train` makes one that can stand beside them",
            ledger.name,
            ledger.name,
        )
        return None
    total = int(final["test_images"])
    records = ledger.records()
    return StudyOutcome(
        backbone=ledger.spec.model.backbone,
        n_trials=len(records),
        right=round(float(final["test_accuracy"]) * total),
        total=total,
        gpu_seconds=sum(_seconds(record.curve) for record in records),
        params=best[0].params,
    )


def _seconds(curve: Sequence[EpochResult]) -> float:
    return sum(result.seconds for result in curve)
