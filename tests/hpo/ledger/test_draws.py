"""What the sampler sees of a study: the same whoever asks, and no more of it as the study grows."""

import optuna
from optuna.trial import FrozenTrial, TrialState

import search_spaces
from hpo.ledger.draws import BEST, BLOCK, Draws
from tests.makers import SPACE, study_spec


def run(draws: Draws, number: int) -> FrozenTrial:
    """Draw a trial and end it with the accuracy that its learning rate earns."""
    params, distributions = draws.draw(number)
    value = 1 - abs(params["learning_rate"] - 0.02)
    draws.report(number, 1, value)
    draws.finish(number, TrialState.COMPLETE, value)
    trial = optuna.trial.create_trial(
        value=value, params=params, distributions=distributions, intermediate_values={1: value}
    )
    trial.number = number
    return trial


def test_a_copy_made_anew_draws_what_the_old_one_would() -> None:
    draws = Draws(study_spec(), SPACE, [])
    trials = [run(draws, number) for number in range(30)]

    again = Draws(study_spec(), SPACE, trials)

    assert again.draw(30) == draws.draw(30)


def test_a_drawn_trial_is_drawn_once() -> None:
    draws = Draws(study_spec(), SPACE, [])

    first = draws.draw(1)

    assert draws.draw(1) == first


def test_a_long_study_is_copied_in_part_with_its_best() -> None:
    space = search_spaces.from_dict({**search_spaces.to_dict(SPACE), "enqueue": []}, "test")
    start = Draws(study_spec(sampler="random"), space, [])
    trials = [run(start, number) for number in range(2 * BLOCK)]
    assert not start.covers(2 * BLOCK)

    draws = Draws(study_spec(), space, trials)

    kept = draws.trials()
    best_old = sorted(trials[:BLOCK], key=lambda trial: -(trial.value or 0))[:BEST]
    assert len(kept) == BLOCK + BEST
    assert {trial.value for trial in best_old} <= {trial.value for trial in kept}
    assert draws.covers(3 * BLOCK - 1)
    assert not draws.covers(3 * BLOCK)


def test_studies_of_neighbouring_seeds_draw_nothing_alike() -> None:
    first, second = (Draws(study_spec(seed=seed, sampler="random"), SPACE, []) for seed in (0, 1))

    rates = [[draws.draw(number)[0]["learning_rate"] for number in range(1, 20)] for draws in (first, second)]

    assert not set(rates[0]) & set(rates[1])


GRID = search_spaces.from_dict(
    {
        "parameters": {
            "learning_rate": {"choices": [1e-3, 1e-4]},
            "batch_size": 32,
            "epochs": {"low": 2, "high": 4, "step": 2},
            "freeze_mode": "none",
        },
        "enqueue": [{"learning_rate": 1e-4, "epochs": 4}],
    },
    "grid",
)


def test_trial_n_of_a_grid_is_its_configuration_n_whatever_happened_before() -> None:
    spec = study_spec(sampler="grid")
    draws = Draws(spec, GRID, [])
    trials = [run(draws, number) for number in range(2)]
    draws.draw(2)

    resumed = Draws(spec, GRID, trials)

    assert [resumed.draw(number)[0] for number in (3, 2)] == [
        {"learning_rate": 1e-4, "batch_size": 32, "epochs": 2, "freeze_mode": "none"},
        {"learning_rate": 1e-3, "batch_size": 32, "epochs": 4, "freeze_mode": "none"},
    ]
    assert [trial.params for trial in trials] == list(search_spaces.grid(GRID)[:2])


def test_a_grid_keeps_a_configuration_that_fits_nowhere_and_moves_no_other() -> None:
    draws = Draws(study_spec(sampler="grid"), GRID, [])

    drawn = [draws.draw(number, lambda _: False)[0] for number in range(3)]

    assert drawn == list(search_spaces.grid(GRID)[:3])
