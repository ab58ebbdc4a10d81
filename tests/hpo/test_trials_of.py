"""How many trials a study is to reach: what was asked for, or the size of its grid."""

import pytest

import search_spaces
from hpo.choices import Sampler
from hpo.errors import UsageError
from hpo.spec import SearchConfig, trials_of
from tests.makers import SPACE

GRID = {
    "parameters": {
        "learning_rate": {"choices": [1e-3, 1e-4]},
        "batch_size": 32,
        "epochs": {"low": 2, "high": 6, "step": 2},
        "freeze_mode": "none",
    }
}


def test_a_grid_has_a_size_of_its_own() -> None:
    search = SearchConfig(space=GRID, sampler="grid")

    assert [trials_of(search, "finetune", asked) for asked in (None, 4, 6)] == [6, 4, 6]


def test_more_trials_than_the_grid_has_are_refused_with_its_size() -> None:
    with pytest.raises(UsageError, match=r"^--trials 7: the grid has 6 configurations"):
        trials_of(SearchConfig(space=GRID, sampler="grid"), "finetune", 7)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_trials_that_read_held_out_test_are_those_of_a_grid(sampler: Sampler) -> None:
    published = {**GRID["parameters"], "protocol": {"choices": ["sound"]}, "reads": {"choices": ["2"]}}
    search = SearchConfig(space={"parameters": published}, sampler=sampler)

    with pytest.raises(UsageError, match=r"^--trainable published: its trials read held-out test.*--sampler grid"):
        trials_of(search, "published", 3)

    assert trials_of(search.model_copy(update={"sampler": "grid"}), "published", None) == 6


def test_what_samples_needs_a_number() -> None:
    with pytest.raises(UsageError, match="--trials is missing"):
        trials_of(SearchConfig(space=search_spaces.to_dict(SPACE)), "finetune", None)
