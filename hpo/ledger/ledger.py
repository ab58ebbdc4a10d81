"""The ledger: a study's Optuna storage, the only truth about it. Nothing else writes to Optuna.

States are Optuna's own. A trial that was interrupted stays RUNNING and is adopted by the next run: the same number and
parameters, continued from its checkpoint.
"""

import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

import search_spaces
from hpo.errors import HpoError, NotOursError
from hpo.ledger.draws import Accept, Draws, accept_all
from hpo.ledger.fence import OWNER, Fence
from hpo.ledger.migrations import read_spec
from hpo.ledger.optuna_private import best_value, state_counts, study_id, trial_id
from hpo.ledger.records import (
    STATES,
    Assignment,
    Ending,
    Place,
    State,
    TrialRecord,
    as_record,
    as_row,
    from_row,
    rows_of,
)
from hpo.ledger.storage import patient
from hpo.spec import RunOptions, StudySpec
from trainables.config import EpochResult
from trainables.predictions import TEST_PREDICTIONS

SPEC, RUN, SPLITS, _LOOKS, _FINAL = "spec", "run", "splits", "test_looks", "final"
_MICRO_BATCHES, KEY = "micro_batches", "key"
_BEST_EPOCH, _ENDING = "best_epoch", "ending"


class Ledger:
    """One study in an Optuna storage.

    Invariants, whatever is killed when:
        - An epoch of a trial is stored once; reporting it again changes nothing.
        - A trial leaves RUNNING once, by `finish`, for COMPLETE, PRUNED or FAIL. `intend` writes that end before the
          epoch that it follows, so that `adopt_interrupted` can complete what a kill cut short.
        - Every write is repeated while the database is unreachable, and tolerates that.
        - Once a process has called `own`, no other process writes until it has called `own` itself.
        - What the sampler draws follows from the study's seed, the trial's number and the trials that ended before.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage) -> None:
        self._study = study
        self._storage = storage
        self.name = study.study_name
        self.hold: Callable[[], None] = lambda: None
        attributes = study.user_attrs
        self.spec = stored_spec(attributes, study.study_name)
        self.space = search_spaces.from_dict(
            self.spec.search.space, f"study {self.name}", trainable=self.spec.trainable
        )
        self._open: dict[int, _OpenTrial] = {}
        self._interrupted: deque[FrozenTrial] = deque()
        self._begun: FrozenTrial | None = None
        self._draws: Draws | None = None
        self._unsure = False
        self._fence = Fence(storage, study_id(study), self.name)
        self._read(attributes)

    def _read(self, attributes: dict[str, Any]) -> None:
        self._micro_batches: dict[str, int] = dict(attributes.get(_MICRO_BATCHES, {}))
        counts = self._counts()
        self._n_trials = sum(counts[state] for state in counts if state != "WAITING")
        # Those that wait in Optuna's queue have numbers, too.
        self._next_number = sum(counts.values())

    # -- the study ---------------------------------------------------------------------------------------------

    @patient
    def own(self, hold: Callable[[], None] = lambda: None) -> None:
        """Become the study's only writer, and read what any earlier one wrote; the caller holds the study's lock.

        Args:
            hold: Called before anything is written, to make sure that the lock is still held.
        """
        self.hold = hold
        self._fence.stamp()
        self._read(self._attributes)

    @patient
    def check_owner(self) -> None:
        """Make sure that the study is still this process's, if it ever was.

        Raises:
            HpoError: Another process owns it now, or has deleted it.
        """
        self._fence.look()

    @property
    def run_options(self) -> RunOptions:
        """How the study was run last."""
        return RunOptions.model_validate(self._attributes[RUN])

    @run_options.setter
    @patient
    def run_options(self, options: RunOptions) -> None:
        self._study.set_user_attr(RUN, options.model_dump())

    @property
    def checkpoint_folder(self) -> str:
        """The name of the study's folder where it shares a place for checkpoints with others, maybe of its name."""
        # Two colons in a URL begin another one.
        return f"{self.name.replace('::', '--')}-{self.key}"

    @property
    def key(self) -> str:
        """What distinguishes the study from all others, whatever they are called; it keeps it when it is renamed."""
        return str(self._attributes[KEY])

    @property
    def last_writer(self) -> str | None:
        """The process that wrote the study last, ``process PID on HOST``; None: hpo 0.1.0 kept none."""
        stamp: dict[str, str] | None = self._attributes.get(OWNER)
        return stamp["process"] if stamp else None

    @property
    def splits(self) -> dict[str, Any]:
        """The summary of the splits that was recorded when the study was created."""
        return dict(self._attributes[SPLITS])

    @property
    def test_looks(self) -> int:
        """How many models of this study have been scored on held-out test images."""
        return int(self._attributes.get(_LOOKS, 0))

    @patient
    def count_test_look(self) -> None:
        """Count one more look at held-out test images, before it is taken."""
        self._study.set_user_attr(_LOOKS, self.test_looks + 1)

    @property
    def final(self) -> dict[str, Any] | None:
        """The result of the last retrain; None before the first."""
        final: dict[str, Any] | None = self._attributes.get(_FINAL)
        return final

    @final.setter
    @patient
    def final(self, result: dict[str, Any]) -> None:
        self._study.set_user_attr(_FINAL, result)

    def micro_batch(self, params: dict[str, Any]) -> int | None:
        """Return the micro-batch that fitted for this batch size and freeze mode; None: no batch was split yet."""
        return self._micro_batches.get(_memory_key(params))

    @patient
    def remember_micro_batch(self, number: int, size: int) -> None:
        """Keep the micro-batch that open trial `number` trains with, for it and for the trials to come."""
        opened = self._open[number]
        key = _memory_key(opened.trial.params)
        if opened.micro_batch != size:
            self._set(opened, "micro_batch", size)
            opened.micro_batch = size
        if size < self._micro_batches.get(key, size + 1):
            kept = {**self._micro_batches, key: size}
            self._study.set_user_attr(_MICRO_BATCHES, kept)
            self._micro_batches = kept

    @property
    def dashboard_path(self) -> str:
        """The study's page in optuna-dashboard, below its address."""
        return f"dashboard/studies/{study_id(self._study)}"

    # -- its trials --------------------------------------------------------------------------------------------

    @property
    def n_trials(self) -> int:
        """Trials that were started, in whatever state they are."""
        return self._n_trials

    def count_states(self) -> dict[State, int]:
        """Return how many trials are in each state, zeros included, without reading them."""
        counts = self._counts()
        return {state: counts.get(state, 0) for state in STATES}

    @property
    def best_value(self) -> float | None:
        """The highest value of a COMPLETE trial, its best-epoch validation accuracy; None: no trial is COMPLETE."""
        with self._still_there():
            return best_value(self._storage, study_id(self._study))

    @property
    def enqueued_elsewhere(self) -> list[int]:
        """The numbers of trials that wait in Optuna's own queue, where another program put them; they are not run."""
        return [one.number for one in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))]

    def records(self, numbers: Container[int] | None = None) -> list[TrialRecord]:
        """Return the started trials, or those of `numbers`, by number."""
        return [as_record(trial) for trial in self._frozen() if numbers is None or trial.number in numbers]

    @patient
    def adopt_interrupted(self) -> list[TrialRecord]:
        """Queue the trials that an earlier run left RUNNING, so that `ask` gives them out first, and return them.

        Trials that had reached their end, but were killed before it was reported, are finished here.
        """
        self._interrupted.clear()
        for trial in self._frozen():
            if trial.state is not TrialState.RUNNING:
                continue
            rows = rows_of(trial)
            ending = trial.user_attrs.get(_ENDING)
            if ending is None and rows and rows[-1]["epoch"] >= trial.params["epochs"]:
                ending = {"state": "COMPLETE", "error": None, "epoch": len(rows)}
            if ending is not None and ending["epoch"] <= len(rows):
                self._open[trial.number] = _OpenTrial(trial, rows)
                self.finish(trial.number, ending["state"], error=ending["error"])
            else:
                self._interrupted.append(trial)
        return [as_record(trial) for trial in self._interrupted]

    @patient
    def ask(self, accept: Accept = accept_all) -> Assignment:
        """Return the next trial: an interrupted one, then one that the space wants tried first, then a sampled one.

        What `accept` refuses of the latter two is never started: another is drawn in its place. A grid's trials are its
        configurations, whatever `accept` says.
        """
        trial = self._interrupted[0] if self._interrupted else self._begun or self._begin(accept)
        rows = rows_of(trial)
        self._open[trial.number] = _OpenTrial(trial, rows)
        if self._interrupted:
            self._interrupted.popleft()
        else:
            self._begun = None
            self._n_trials += 1
            self._next_number = trial.number + 1
        return Assignment(trial.number, dict(trial.params), len(rows), trial.user_attrs.get("host"))

    def again(self, number: int) -> Assignment:
        """Return open trial `number` in its present state, for another process to continue."""
        opened = self._open[number]
        host = opened.place.host if opened.place else opened.trial.user_attrs.get("host")
        return Assignment(number, dict(opened.trial.params), len(opened.rows), host)

    @patient
    def note_memory(self, number: int, *, estimated_gb: float, measured_gb: float) -> None:
        """Keep the estimated GPU memory of open trial `number`, in GiB, and the most that it took."""
        opened = self._open[number]
        if measured_gb > opened.measured_gb:
            self._set(opened, "memory_gb", {"estimated": estimated_gb, "measured": measured_gb})
            opened.measured_gb = measured_gb

    @patient
    def report(self, number: int, result: EpochResult, *, host: str, device: str) -> bool:
        """Store one epoch of an open trial; False, and nothing stored, where the ledger has that epoch already."""
        opened = self._open[number]
        if result.epoch <= len(opened.rows):
            return False
        if result.epoch != len(opened.rows) + 1:
            raise HpoError(
                f"trial {number} reported epoch {result.epoch} after epoch {len(opened.rows)} of study {self.name};"
                " this is a defect of hpo, please report it."
            )
        place = Place(host, device)
        rows = [*opened.rows, as_row(result, place, time.time())]
        if place != opened.place:
            self._set(opened, "host", host)
            self._set(opened, "device", device)
            opened.place = place
        if result.val_predictions:
            self._set(opened, "val_predictions", result.val_predictions)
        if TEST_PREDICTIONS in result.extra:
            # Before anybody can see what was read.
            self.count_test_look()
        # The value goes last: an epoch counts as reported once Optuna has its value.
        self._set(opened, "curve", rows)
        self._storage.set_trial_intermediate_value(trial_id(opened.trial), result.epoch, result.val_accuracy)
        opened.rows = rows
        if self._draws is not None:
            self._draws.report(number, result.epoch, result.val_accuracy)
        return True

    @patient
    def intend(self, number: int, state: Ending, *, epoch: int, error: str | None = None) -> None:
        """Write down that a trial is to end in `state` once its `epoch` is reported; `finish` then ends it."""
        opened = self._open[number]
        self._set(opened, _ENDING, {"state": state, "error": error, "epoch": epoch})
        opened.intended = True

    @patient
    def finish(self, number: int, state: Ending, *, error: str | None = None) -> None:
        """End an open trial: COMPLETE with its best epoch's validation accuracy, or PRUNED or FAIL with the reason."""
        opened = self._open[number]
        if not opened.intended:
            self.intend(number, state, epoch=len(opened.rows), error=error)
        if error is not None:
            self._set(opened, "error", error)
        best = max(map(from_row, opened.rows), key=lambda result: result.val_accuracy, default=None)
        if best is not None:
            self._set(opened, _BEST_EPOCH, best.epoch)
        value = best.val_accuracy if best is not None and state == "COMPLETE" else None
        self._study.tell(number, value, state=TrialState[state], skip_if_finished=True)
        if self._draws is not None:
            self._draws.finish(number, TrialState[state], value)
        del self._open[number]

    def _set(self, opened: "_OpenTrial", key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial_id(opened.trial), key, value)

    def _begin(self, accept: Accept) -> FrozenTrial:
        """Create the next trial, whole or not at all, unless a connection broke after the database had created it."""
        if self._unsure:
            for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if frozen.number not in self._open:
                    self._begun = frozen
                    return frozen
        if self._draws is None or not self._draws.covers(self._next_number):
            self._draws = Draws(self.spec, self.space, self._frozen())
        params, distributions = self._draws.draw(self._next_number, accept)
        template = optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        self._unsure = True
        created = self._storage.create_new_trial(study_id(self._study), template)
        self._unsure = False
        self._begun = self._storage.get_trial(created)
        return self._begun

    def _frozen(self) -> list[FrozenTrial]:
        """Return all trials that were started; those that wait in Optuna's queue do not count yet."""
        with self._still_there():
            trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state is not TrialState.WAITING]

    def _counts(self) -> dict[str, int]:
        """Return how many trials are in each of Optuna's states, WAITING included."""
        with self._still_there():
            return state_counts(self._storage, study_id(self._study))

    @property
    def _attributes(self) -> dict[str, Any]:
        with self._still_there():
            return self._study.user_attrs

    @contextmanager
    def _still_there(self) -> Iterator[None]:
        """Say of a study that cannot be read because it was deleted under this process that it was."""
        try:
            yield
        except KeyError as error:
            self.check_owner()
            raise HpoError(f"study {self.name} was deleted; `hpo status` lists the studies that are there.") from error


@dataclass
class _OpenTrial:
    trial: FrozenTrial
    """As it was when this run took it up."""
    rows: list[dict[str, Any]]
    """Its epochs that the database has."""
    place: Place | None = None
    micro_batch: int | None = None
    measured_gb: float = 0.0
    intended: bool = False
    """Whether its end is written down."""


def stored_spec(attributes: Mapping[str, Any], study: str) -> StudySpec:
    """Return the specification that a study carries among its attributes.

    Raises:
        NotOursError: It carries none: hpo did not make it.
    """
    stored = attributes.get(SPEC)
    if stored is None:
        raise NotOursError(f"study {study} was not made by hpo (it carries no specification).")
    return read_spec(stored, study)


def _memory_key(params: dict[str, Any]) -> str:
    """Return what decides a trial's memory within a study, where backbone and image size are fixed."""
    return f"{params.get('freeze_mode', 'none')}/{params.get('batch_size')}"
