"""What a report reads of one study, once: its ledger's facts and what its test predicted."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hpo.ledger.importances import importances
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import State, TrialRecord, accuracy, best_records, count_states
from hpo.paths import StudyPaths
from hpo.report.predictions import Predictions, final_predictions, validation_predictions
from hpo.spec import RunOptions, StudySpec
from search_spaces import SearchSpace


@dataclass(frozen=True)
class StudySource:
    """A study as it was when the report was made."""

    name: str
    paths: StudyPaths
    spec: StudySpec
    options: RunOptions
    space: SearchSpace
    splits: dict[str, Any]
    records: list[TrialRecord]
    final: dict[str, Any] | None
    test_looks: int

    @cached_property
    def best(self) -> TrialRecord | None:
        """The best trial; None where none has ended with an epoch."""
        return next(iter(best_records(self.records, 1)), None)

    @property
    def start(self) -> TrialRecord | None:
        """The better of the trials that the search space wanted first; None: there are none yet."""
        asked = [one for one in self.records[: len(self.space.enqueue)] if one.best is not None]
        return max(asked, key=accuracy, default=None)

    @property
    def ended(self) -> list[TrialRecord]:
        """The trials that do not run any more."""
        return [one for one in self.records if one.state != "RUNNING"]

    @property
    def states(self) -> dict[State, int]:
        """How many trials are in each state."""
        return count_states(self.records)

    @property
    def seconds(self) -> float:
        """What all epochs of all trials took, in s."""
        return sum(one.seconds_trained for one in self.records)

    @cached_property
    def importances(self) -> dict[str, np.ndarray]:
        """See `hpo.ledger.importances.importances`; the most important parameter first."""
        found = importances(self.space, self.records)
        return dict(sorted(found.items(), key=lambda pair: -float(pair[1].mean())))

    @cached_property
    def predictions(self) -> Predictions | None:
        """The final model's on held-out test images, else the best trial's on validation images; None: neither."""
        classes = tuple(map(str, self.splits.get("classes", ())))
        tested = final_predictions(self.paths.final / "test_predictions.csv", classes) if self.final else None
        if tested is not None or self.best is None:
            return tested
        labels = self.splits.get("validation_labels", "")
        return validation_predictions(self.best, labels, classes, self.paths.splits)


def read(ledger: Ledger, paths: StudyPaths) -> StudySource:
    """Return what a report says of a study, also of one that runs; nothing is written."""
    return StudySource(
        name=ledger.name,
        paths=paths,
        spec=ledger.spec,
        options=ledger.run_options,
        space=ledger.space,
        splits=ledger.splits,
        records=ledger.records(),
        final=ledger.final,
        test_looks=ledger.test_looks,
    )
