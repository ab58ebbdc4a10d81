"""What the sampler draws from: a copy, in memory, of as much of a study as it can learn from."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

import search_spaces
from hpo.choices import Sampler
from hpo.errors import NothingFitsError
from hpo.ledger.optuna_private import storage_of, study_id, trial_id
from hpo.spec import StudySpec
from search_spaces import SearchSpace
from trainables.seeds import stream

BLOCK = 250
"""The copy holds the newest one to two blocks of trials; TPE compares at most its 25 best with all others, which no
longer gain by number."""
BEST = 25
"""Older trials that are kept: as many as TPE counts among the best."""
REFUSALS = 1000
"""Draws in a row that may be refused before the search space counts as one that holds nothing else."""

Accept = Callable[[dict[str, Any]], bool]
"""Whether a configuration can be run at all; a grid takes what it holds, and is not asked."""


def accept_all(_params: dict[str, Any]) -> bool:
    """Accept a configuration, whatever it is."""
    return True


class Draws:
    """A study's parameters, drawn one trial after another at a cost that does not grow with the study.

    What is drawn for a trial follows from the study's seed, the trial's number and the trials before it.
    """

    def __init__(self, spec: StudySpec, space: SearchSpace, trials: Sequence[FrozenTrial]) -> None:
        self._kind: Sampler = spec.search.sampler
        self._seed = spec.seed
        self._space = space
        self._grid = search_spaces.grid(space) if self._kind == "grid" else ()
        self._first = max(0, len(trials) // BLOCK - 1) * BLOCK
        self._study = optuna.create_study(direction="maximize")
        self._ids: dict[int, int] = {}
        for trial in (*_best(trials[: self._first]), *trials[self._first :]):
            self._ids[trial.number] = storage_of(self._study).create_new_trial(study_id(self._study), _slim(trial))

    def covers(self, number: int) -> bool:
        """Return whether trial `number` can be drawn here; if not, it is time for a new copy."""
        return number < self._first + 2 * BLOCK

    def trials(self) -> list[FrozenTrial]:
        """Return what the sampler sees, the oldest first."""
        return self._study.get_trials(deepcopy=False)

    def draw(self, number: int, accept: Accept = accept_all) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Return the parameters of trial `number` and what they were drawn from; the same when asked again.

        Raises:
            NothingFitsError: All that was drawn was refused by `accept`, or a grid has no trial `number`.
        """
        if number not in self._ids:
            self._ids[number] = self._draw(number, accept)
        frozen = storage_of(self._study).get_trial(self._ids[number])
        return frozen.params, frozen.distributions

    def _draw(self, number: int, accept: Accept) -> int:
        if self._kind == "grid":
            return self._take(number)
        if number < len(self._space.enqueue):
            self._study.enqueue_trial(dict(self._space.enqueue[number]))
        for attempt in range(REFUSALS):
            self._study.sampler = _sampler(self._kind, stream(self._seed, "sampler", number, attempt))
            trial = self._study.ask()
            search_spaces.suggest(self._space, trial)
            if accept(trial.params):
                return trial_id(trial)
            # A sampler learns nothing from a failed trial, so that what was refused leaves no trace.
            self._study.tell(trial, state=TrialState.FAIL)
        raise NothingFitsError(
            f"none of {REFUSALS} configurations drawn for trial {number} fits on these machines: lower batch sizes or"
            " --image-size, freeze more, or add a larger card"
        )

    def _take(self, number: int) -> int:
        """Take the grid's configuration `number`, whatever became of the others."""
        if number >= len(self._grid):
            raise NothingFitsError(f"the grid has {len(self._grid)} configurations, and trial {number} is beyond them")
        self._study.enqueue_trial(self._grid[number])
        self._study.sampler = _sampler(self._kind, 0)
        trial = self._study.ask()
        search_spaces.suggest(self._space, trial)
        return trial_id(trial)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Let the sampler know an epoch of a trial."""
        if number in self._ids:
            storage_of(self._study).set_trial_intermediate_value(self._ids[number], epoch, value)

    def finish(self, number: int, state: TrialState, value: float | None) -> None:
        """Let the sampler know the end of a trial."""
        if number in self._ids:
            values = None if value is None else [value]
            storage_of(self._study).set_trial_state_values(self._ids[number], state, values)


def _best(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The best complete trials, in the order of their numbers."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: -(trial.value or 0.0))[:BEST]
    return sorted(best, key=lambda trial: trial.number)


def _slim(trial: FrozenTrial) -> FrozenTrial:
    """What a sampler looks at."""
    return optuna.trial.create_trial(
        state=trial.state,
        value=trial.value,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
    )


def _sampler(kind: Sampler, seed: int) -> BaseSampler:
    """A sampler made anew for each trial: its draws then do not depend on when the study was interrupted."""
    if kind in ("random", "grid"):
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # Optuna marks both as experimental; conditional search spaces need `group`.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
