"""How much longer a study takes, simulated from the pace of its freeze modes and from what ASHA let live so far.

A trial that is still to be drawn is taken to be like one of those drawn: its freeze mode, epochs and seconds per epoch.
How many of a freeze mode's trials ASHA stops at a rung is learned from those that reached it. Trials start in the place
that is free first, and the retrain follows the last. A simulation draws all that is uncertain; many give the time left,
and how far it can be off.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpo.ledger.records import TrialRecord, best_records
from hpo.spec import SearchConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SIMULATIONS = 200
_LIKE = 64
"""Trials drawn last, which those to come are taken to be like: the sampler changes its mind."""
_SIMULATED = 512
"""Trials to come that are simulated one by one; what there is beyond is added in proportion."""
_POOLED_WEIGHT = 4.0
"""Trials at a rung that what all freeze modes have in common counts for, beside those of the mode itself."""
_PRIOR_WEIGHT = 4.0
"""Trials at a rung that what is expected of the reduction factor counts for, beside those of all freeze modes."""
_SURVIVORS = 2.0
"""Trials that live on at a rung, by the reduction factor's share: the first at a rung always does, and a sampler that
learns gives better ones later. In the recorded studies 0.44 to 0.58 did where the share is a quarter."""
_SPREAD = 0.1
"""How much an epoch differs from the next, by its seconds, where only one is known."""
_NINE_IN_TEN = 1.28
"""Standard deviations of a normal variable."""
_DEVIATION = 0.15
"""How much what is to come differs from what was seen, as the standard deviation of the logarithm of its seconds, where
no trial is to come; it grows with those that are, by those that were seen: samplers move on, and so do loads."""
_MOST_TO_COME = 4.0
_OPENING, _CLOSING = 0.4, 0.3
"""What a study takes between its last trial and the retrain's first epoch, and after its last epoch, by what the first
trials took before theirs: all of it waits for files and for Ray. In four recorded studies 0.21 to 0.62 and 0.23 to 0.41
(``python -m benchmarks.time_left``)."""
_ALONE = 0.6
"""Seconds of a retrain's epoch, when nothing else trains on the CPUs, by what it would take beside other trials: in the
same studies, of two trials at a time on two CPUs, 0.47 to 0.82."""
_VALIDATION_COST = 1 / 3
"""What an image costs in validation, by its cost in training: no backward pass."""


@dataclass(frozen=True)
class TrialPace:
    """How far a trial is, and how fast."""

    mode: str
    """Its freeze mode."""
    epochs: int
    """Those that it was drawn with, at least 1."""
    done: int
    """Those that it reported."""
    state: str
    """Optuna's."""
    epoch_s: float | None = None
    """Seconds from one of its epochs to the next, on average; None before the first."""
    own_s: float | None = None
    """Seconds that an epoch takes by itself, on average; None: as `epoch_s`. A trial's reports go through Ray Tune, a
    retrain's do not."""
    start_s: float | None = None
    """Seconds until its first epoch began; None: not known."""
    is_first: bool = False
    """Whether its process may have had to be started, too."""
    waited_s: float = 0.0
    """Of a trial that runs: seconds since its last epoch was reported, or since it began."""


@dataclass(frozen=True)
class Plan:
    """What is still to be done, and how."""

    to_come: int
    """Trials that were not drawn yet."""
    slots: int
    """Trials that run at a time."""
    rungs: tuple[int, ...] = ()
    """Epochs after which ASHA may stop a trial, ascending."""
    reduction_factor: float = 4.0
    retrained: TrialPace | None = None
    """The trial that would be retrained, as it is now; None: none will be."""
    retrain_ratio: float = 1.0
    """Seconds of one of a retrain's epochs by those of its trial, if both ran beside as many others."""
    shares_cpus: bool = False
    """Whether trials that run at a time train on the same CPUs."""
    idle_s: float = 0.0
    """Where no trial runs: seconds since the last one ended."""


@dataclass(frozen=True)
class TimeLeft:
    """Seconds until a study ends."""

    seconds: float
    """As likely too short as too long."""
    low: float
    """Too short in nine simulations of ten, and `high` too long in nine."""
    high: float


def time_left(trials: Sequence[TrialPace], plan: Plan) -> TimeLeft | None:
    """Return how long a study takes from now; None before the first epoch of any trial.

    The same arguments give the same result.

    Args:
        trials: All that were drawn, in the order of their numbers.
        plan: What is still to be done.
    """
    like = [trial for trial in trials if trial.state != "FAIL"][-_LIKE:]
    if all(trial.epoch_s is None for trial in like):
        return None
    generator = np.random.default_rng(0)
    running = [trial for trial in trials if trial.state == "RUNNING"]
    kinds = _Kinds.of(like + running, plan.rungs)
    survival = _survival(trials, plan, kinds.modes, generator)
    ends = _ends(running, kinds, len(like), survival, generator)
    free = np.zeros((SIMULATIONS, max(plan.slots, len(running), 1)))
    free[:, : len(running)] = ends
    chosen = generator.dirichlet(np.ones(len(like)), SIMULATIONS)
    free = _run(free, plan.to_come, chosen, kinds, survival, generator)
    total = free.max(axis=1)
    if plan.retrained is not None:
        total += _retrain(plan, len(trials), chosen, kinds, generator)
    total += closing(trials)
    deviation = _DEVIATION * (1 + min(plan.to_come / len(trials), _MOST_TO_COME))
    total = np.maximum(total * np.exp(deviation * _normal_quantiles(generator)) - plan.idle_s, 0.0)
    low, middle, high = np.quantile(total, (0.1, 0.5, 0.9))
    return TimeLeft(float(middle), float(low), float(high))


def closing(trials: Sequence[TrialPace]) -> float:
    """Return the seconds that a study takes after its last epoch, of a trial or of the retrain."""
    return _CLOSING * max((trial.start_s for trial in trials if trial.start_s is not None), default=0.0)


def retrain_left(ends: Sequence[float], left: int, now: float, closing_s: float = 0.0) -> TimeLeft:
    """Return how long a study takes whose retrain has `left` epochs to go.

    Args:
        ends: When each epoch ended, in seconds, after when the first began.
        left: Epochs.
        now: In seconds.
        closing_s: What it takes after the last epoch.
    """
    seconds = np.diff(ends)
    mean = float(seconds.mean())
    deviation = float(seconds.std(ddof=1)) if len(seconds) > 1 else _SPREAD * mean
    middle = max(mean * left + closing_s - (now - ends[-1]), 0.0)
    # Epochs differ by chance, and their mean is known from so many.
    within = _NINE_IN_TEN * deviation * math.sqrt(left + left**2 / len(seconds))
    return TimeLeft(middle, max(middle - within, 0.0), middle + within)


def rungs_of(search: SearchConfig, max_epochs: int) -> tuple[int, ...]:
    """Return the epochs after which ASHA may stop a trial of a study whose longest trial has `max_epochs`."""
    rungs: list[int] = []
    rung = float(search.grace_period)
    while search.asha and math.ceil(rung) < max_epochs:
        rungs.append(math.ceil(rung))
        rung *= search.reduction_factor
    return tuple(dict.fromkeys(rungs))


def retrain_ratio(train: int, validation: int) -> float:
    """Return what an epoch on all images takes, by one that trains on `train` images and is judged by the others."""
    return (train + validation) / (train + validation * _VALIDATION_COST) if train else 1.0


def pace_of(record: TrialRecord) -> TrialPace:
    """Return a trial's pace as far as the ledger knows it."""
    seconds = [result.seconds for result in record.curve]
    around = record.seconds - sum(seconds) if record.seconds is not None else None
    return TrialPace(
        mode=str(record.params.get("freeze_mode", "none")),
        epochs=max(int(record.params.get("epochs", 1)), len(seconds), 1),
        done=len(seconds),
        state=record.state,
        epoch_s=sum(seconds) / len(seconds) if seconds else None,
        start_s=max(around, 0.0) if around is not None and seconds else None,
    )


def best_pace(records: list[TrialRecord]) -> TrialPace | None:
    """Return the pace of the trial that would be retrained now; None: there is none yet."""
    best = best_records(records, 1)
    return pace_of(best[0]) if best else None


@dataclass(frozen=True)
class _Kinds:
    """Kinds of trials, (K,) each."""

    modes: tuple[str, ...]
    """The freeze modes."""
    mode: Ints
    """Index into `modes`."""
    epochs: Ints
    epoch_s: Floats
    own_s: Floats
    start_s: float
    """Of any of them that is not the first in its process: the median."""
    first_start_s: float
    """The longest: in a process that had to be started."""
    stops: Ints
    """(K, R + 1): after how many epochs it ends if it survives so many rungs, the last being its own `epochs`."""

    @classmethod
    def of(cls, trials: Sequence[TrialPace], rungs: Sequence[int]) -> "_Kinds":
        modes = tuple(sorted({trial.mode for trial in trials}))
        known = {mode: [t.epoch_s for t in trials if t.mode == mode and t.epoch_s is not None] for mode in modes}
        anyone = float(np.median([seconds for one in known.values() for seconds in one]))
        starts = [trial.start_s for trial in trials if trial.start_s is not None and not trial.is_first]
        firsts = [trial.start_s for trial in trials if trial.start_s is not None]
        usual = {mode: float(np.median(one)) if one else anyone for mode, one in known.items()}
        epochs = np.array([trial.epochs for trial in trials], np.int64)
        return cls(
            modes,
            np.array([modes.index(trial.mode) for trial in trials], np.int64),
            epochs,
            np.array([usual[t.mode] if t.epoch_s is None else t.epoch_s for t in trials], np.float64),
            np.array([t.own_s or t.epoch_s or usual[t.mode] for t in trials], np.float64),
            float(np.median(starts)) if starts else 0.0,
            max(firsts, default=0.0),
            np.minimum(np.array([*rungs, np.iinfo(np.int64).max], np.int64), epochs[:, None]),
        )


def _normal_quantiles(generator: np.random.Generator) -> Floats:
    """Return (SIMULATIONS,): normal values that lie as such values do, and have no mean, in random order."""
    shares = (np.arange(SIMULATIONS) + 0.5) / SIMULATIONS
    values = [statistics.NormalDist().inv_cdf(float(share)) for share in shares]
    return np.asarray(generator.permutation(values))


def _survival(trials: Sequence[TrialPace], plan: Plan, modes: Sequence[str], generator: np.random.Generator) -> Floats:
    """Return (SIMULATIONS, modes, rungs): the share of trials that ASHA lets live at each rung."""
    passed = np.zeros((len(modes), len(plan.rungs)))
    stopped = np.zeros_like(passed)
    for trial in trials:
        if trial.mode not in modes or trial.state == "FAIL":
            continue
        for index, rung in enumerate(plan.rungs):
            if trial.state == "PRUNED" and trial.done <= rung:
                stopped[modes.index(trial.mode), index] += trial.done == rung
                break
            # A trial that runs reports a rung's epoch once ASHA has let it live.
            passed[modes.index(trial.mode), index] += trial.done >= rung and trial.epochs > rung
    prior = min(_SURVIVORS / plan.reduction_factor, 0.9)
    together = passed.sum(axis=0) + stopped.sum(axis=0)
    pooled = (passed.sum(axis=0) + _PRIOR_WEIGHT * prior) / (together + _PRIOR_WEIGHT)
    return generator.beta(
        passed + _POOLED_WEIGHT * pooled,
        stopped + _POOLED_WEIGHT * (1 - pooled),
        (SIMULATIONS, *passed.shape),
    )


def _epochs_run(stops: Ints, done: Ints, alive: Floats, generator: np.random.Generator) -> Ints:
    """Return after how many epochs trials end.

    Args:
        stops: (..., R + 1), see `_Kinds`.
        done: (...), epochs that they have already, at whose rungs they were not stopped.
        alive: (..., R), the share that lives on at each rung.
        generator: Decides.
    """
    # What they have behind them stops no trial any more, nor does a rung at or above their own last epoch.
    open_rungs = (stops[..., :-1] > done[..., None]) & (stops[..., :-1] < stops[..., -1:])
    reached = np.cumprod(np.where(open_rungs, alive, 1.0), axis=-1)
    survived = (generator.random((*reached.shape[:-1], 1)) < reached).sum(axis=-1)
    return np.asarray(np.take_along_axis(stops, survived[..., None], axis=-1)[..., 0])


def _ends(
    running: Sequence[TrialPace], kinds: _Kinds, first: int, survival: Floats, generator: np.random.Generator
) -> Floats:
    """Return (SIMULATIONS, running): in how many seconds each trial that runs ends; their kinds begin at `first`."""
    if not running:
        return np.zeros((SIMULATIONS, 0))
    which = np.arange(first, first + len(running))
    done = np.array([trial.done for trial in running], np.int64)
    waited = np.array([trial.waited_s for trial in running])
    shape = (SIMULATIONS, len(running))
    stops = np.broadcast_to(kinds.stops[which], (*shape, kinds.stops.shape[1]))
    last = _epochs_run(stops, np.broadcast_to(done, shape), survival[:, kinds.mode[which], :], generator)
    start = np.where([trial.is_first for trial in running], kinds.first_start_s, kinds.start_s)
    seconds = (last - done) * kinds.epoch_s[which] + np.where(done == 0, start, 0.0)
    # An epoch that is overdue is taken to end soon.
    return np.asarray(np.maximum(seconds - waited, 0.1 * kinds.epoch_s[which]))


def _run(
    free: Floats, to_come: int, chosen: Floats, kinds: _Kinds, survival: Floats, generator: np.random.Generator
) -> Floats:
    """Return (SIMULATIONS, slots): when each slot is free for good, if `to_come` trials start where one is free first.

    Args:
        free: (SIMULATIONS, slots), when each is free now.
        to_come: Trials that are still to be drawn.
        chosen: (SIMULATIONS, kinds), how likely a trial is of a kind.
        kinds: The kinds, maybe more than those of `chosen`.
        survival: See `_survival`.
        generator: Decides.
    """
    count = min(to_come, _SIMULATED)
    if not count:
        return free
    # Which kind each is of: the first whose cumulated probability is above a random number.
    edges = np.cumsum(chosen, axis=1)
    edges[:, -1] = 1.0
    kind = np.stack([np.searchsorted(row, generator.random(count), side="right") for row in edges])
    simulation = np.arange(SIMULATIONS)
    alive = survival[simulation[:, None], kinds.mode[kind], :]
    last = _epochs_run(kinds.stops[kind], np.zeros_like(kind), alive, generator)
    seconds = kinds.start_s + last * kinds.epoch_s[kind]
    free = free.copy()
    for trial in range(count):
        slot = free.argmin(axis=1)
        free[simulation, slot] += seconds[:, trial]
    beyond = seconds.mean(axis=1) * (to_come - count) / free.shape[1]
    return np.asarray(free + beyond[:, None])


def _retrain(plan: Plan, drawn: int, chosen: Floats, kinds: _Kinds, generator: np.random.Generator) -> Floats:
    """Return (SIMULATIONS,): the seconds of the retrain of the best trial, which may be one that is still to come."""
    best = plan.retrained
    assert best is not None
    every = drawn + plan.to_come
    stays = generator.random(SIMULATIONS) < (drawn / every if every else 1.0)
    edges = np.cumsum(chosen, axis=1)
    edges[:, -1] = 1.0
    another = np.array([np.searchsorted(row, generator.random(), side="right") for row in edges])
    there = (kinds.epochs * kinds.own_s)[another]
    seconds = np.where(stays, best.epochs * (best.own_s or best.epoch_s or 0.0), there)
    alone = _ALONE if plan.shares_cpus and plan.slots > 1 else 1.0
    return np.asarray(seconds * plan.retrain_ratio * alone + _OPENING * kinds.first_start_s)
