"""Draw a configuration from a search space with an Optuna trial."""

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.parameters import ParamValue
from search_spaces.space import Distribution, SearchSpace, holding


def suggest(space: SearchSpace, trial: optuna.trial.BaseTrial) -> dict[str, ParamValue]:
    """Return a value for each parameter; a trial that has some already keeps them."""
    values: dict[str, ParamValue] = {}
    for name, alternatives in space.parameters.items():
        (alternative,) = holding(alternatives, values)
        values[name] = _draw(name, alternative.distribution, trial)
    return values


def _draw(name: str, distribution: Distribution, trial: optuna.trial.BaseTrial) -> ParamValue:
    if isinstance(distribution, CategoricalDistribution):
        choice: ParamValue = trial.suggest_categorical(name, distribution.choices)  # type: ignore[assignment]
        return choice
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
