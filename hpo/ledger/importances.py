"""How much each parameter mattered in a study, and how much of that is chance."""

import warnings
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial

from hpo.ledger.records import TrialRecord
from search_spaces import SearchSpace
from search_spaces.space import holding

TOP = 0.25
"""Importance is measured for reaching the best quarter of the trials. PED-ANOVA wants five there or more, so that its
usual tenth would need fifty trials."""
FEWEST = 8
"""Trials below which nothing is said: fewer than two would be in the best quarter."""
RESAMPLES = 30
LARGEST = 300
"""Trials of a resample, since Optuna copies each of them at some cost; of more trials the spread is told too
wide."""


def importances(space: SearchSpace, records: Sequence[TrialRecord]) -> dict[str, np.ndarray]:
    """Return each parameter's share of the importance, once per resample of the trials, by name.

    PED-ANOVA (Watanabe, Bansal & Hutter 2023, arXiv 2304.10255) by Optuna compares where the best quarter of the trials
    lies with where all of them lie. It has no randomness of its own, so it is repeated over bootstrap samples of the
    trials, each of a seed of its own. Trials that were stopped early count with their best epoch: of a study under
    ASHA few others are left, and those that it stopped were not among the best.

    Args:
        space: Where the trials' parameters come from.
        records: The study's trials; those without an epoch, and those that run, are left out.

    Returns:
        (`RESAMPLES`,) float64 of each parameter that was drawn with more than one value; rows of all parameters sum to
        1. Empty where there are fewer than `FEWEST` trials, or all are equally good.
    """
    scored = [one for one in records if one.best is not None and one.state != "RUNNING"]
    values = [one.best.val_accuracy for one in scored if one.best is not None]
    varied = [name for name in space.parameters if len({one.params.get(name) for one in scored}) > 1]
    if len(scored) < FEWEST or len(set(values)) == 1 or not varied:
        return {}
    trials = [_as_trial(space, one, value) for one, value in zip(scored, values, strict=True)]
    rows = []
    for seed in range(RESAMPLES):
        chosen = np.random.default_rng(seed).integers(0, len(trials), min(len(trials), LARGEST))
        found = _evaluate([trials[index] for index in chosen], varied)
        rows.append([found[name] for name in varied])
    shares = np.asarray(rows)
    totals = shares.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, shares / np.where(totals > 0, totals, 1), 1 / len(varied))
    return dict(zip(varied, shares.T, strict=True))


def _evaluate(trials: Sequence[FrozenTrial], names: list[str]) -> dict[str, float]:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    with warnings.catch_warnings():
        # A resample may hold a single trial of some condition; the spread over the resamples shows what that costs.
        warnings.simplefilter("ignore")
        return PedAnovaImportanceEvaluator(target_quantile=TOP).evaluate(study, names)


def _as_trial(space: SearchSpace, record: TrialRecord, value: float) -> FrozenTrial:
    params = {name: record.params[name] for name in space.parameters if name in record.params}
    distributions: dict[str, BaseDistribution] = {
        name: holding(space.parameters[name], params)[0].distribution for name in params
    }
    return optuna.trial.create_trial(value=value, params=params, distributions=distributions)
