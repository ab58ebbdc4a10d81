"""The loader accepts what it documents, names every mistake, and draws from what it accepted."""

import json
import tomllib
from pathlib import Path
from typing import Any

import optuna
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import search_spaces
from search_spaces import SearchSpace, SpaceError

optuna.logging.set_verbosity(optuna.logging.WARNING)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BACKBONES = ("simclr", "resnet18", "resnet50", "vgg", "inception", "vit", "swin", "torchvision:alexnet")
MODES = ("none", "partial", "backbone")
VALID: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "batch_size": {"choices": [16, 32]},
    "epochs": {"low": 10, "high": 50, "step": 10},
    "freeze_mode": "none",
}

rates = st.floats(1e-6, 1.0)
whole = st.integers(1, 500)
rate_ranges = st.tuples(rates, rates, st.booleans()).map(
    lambda drawn: {"low": min(drawn[:2]), "high": max(drawn[:2]), "log": drawn[2]}
)
whole_ranges = st.tuples(whole, st.integers(0, 9), st.integers(1, 20)).map(
    lambda drawn: {"low": drawn[0], "high": drawn[0] + drawn[1] * drawn[2], "step": drawn[2]}
)


def choices_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=4, unique=True).map(lambda drawn: {"choices": drawn})


spaces = st.fixed_dictionaries(
    {
        "learning_rate": rate_ranges | choices_of(rates) | rates,
        "batch_size": whole_ranges | choices_of(whole) | whole,
        "epochs": whole_ranges | choices_of(whole) | whole,
        "freeze_mode": choices_of(st.sampled_from(MODES)) | st.sampled_from(MODES),
    }
).map(lambda parameters: search_spaces.from_dict({"parameters": parameters}, "drawn"))
toml_values: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["none", 16, 1e-3]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["low", "high", "log", "step", "choices", "when", "freeze_mode"]), inner)
    ),
    max_leaves=8,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "parameters": st.dictionaries(st.sampled_from([*VALID, "lr"]), toml_values) | toml_values,
        "enqueue": st.lists(st.dictionaries(st.sampled_from([*VALID, "lr"]), toml_values), max_size=2) | toml_values,
        "other": toml_values,
    },
)


def mistakes(document: dict[str, Any]) -> str:
    with pytest.raises(SpaceError) as caught:
        search_spaces.from_dict(document, "mine.toml")
    return str(caught.value)


@pytest.mark.parametrize("weights", ["default", "none"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_space_that_is_shipped_loads(backbone: str, weights: str) -> None:
    space = search_spaces.builtin(backbone, weights)

    assert space.max_epochs == 50
    assert bool(space.enqueue) == (weights == "default" and not backbone.startswith("torchvision:"))


@QUICK
@given(spaces)
def test_a_space_survives_json_and_toml(space: SearchSpace) -> None:
    document = search_spaces.to_dict(space)

    assert search_spaces.from_dict(json.loads(json.dumps(document)), "json") == space
    assert search_spaces.from_dict(tomllib.loads(tomli_w.dumps(document)), "toml") == space


@QUICK
@given(spaces, st.integers(0, 1000))
def test_what_is_drawn_lies_in_the_space_and_can_be_enqueued(space: SearchSpace, seed: int) -> None:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()

    values = search_spaces.suggest(space, trial)

    assert values.keys() == VALID.keys()
    assert search_spaces.suggest(space, trial) == values
    again = {**search_spaces.to_dict(space), "enqueue": [values]}
    assert search_spaces.from_dict(again, "enqueued").enqueue == (values,)


@settings(QUICK, max_examples=300)
@given(documents)
def test_any_document_is_a_space_or_is_refused(document: dict[str, Any]) -> None:
    try:
        space = search_spaces.from_dict(document, "fuzz", search_spaces.builtin("resnet18", "default"))
    except SpaceError:
        return
    assert search_spaces.suggest(space, optuna.create_study().ask()).keys() == VALID.keys()


@QUICK
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_a_space_or_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "space.toml"
    path.write_bytes(content)

    try:
        space = search_spaces.load(path, search_spaces.builtin("resnet18", "default"))
    except SpaceError:
        return
    assert space.parameters.keys() == VALID.keys()


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("learning_rate", {"low": 0.1, "high": 0.001}, "low <= high must hold, but low=0.1, high=0.001; swap them"),
        ("learning_rate", {"low": 0, "high": 0.1, "log": True}, "low: a number above 0 is needed"),
        ("learning_rate", {"low": 0.1, "high": 0.2, "log": True, "step": 0.1}, "step: cannot be used with log"),
        ("learning_rate", {"low": 0.1, "high": float("nan")}, "high: a number above 0"),
        ("epochs", {"low": 10, "high": 25, "step": 10}, "multiple of step"),
        ("epochs", {"low": 10}, "a range needs low and high"),
        ("epochs", True, "a whole number from 1"),
        ("batch_size", {"choices": []}, "at least one value"),
        ("batch_size", {"choices": [16, 16]}, "each value may stand there once"),
        ("batch_size", {"low": 1, "high": 2, "base": 2}, "base: unknown here; allowed are high, log, low, step, when"),
        ("freeze_mode", "all", "one of none, partial, backbone"),
        ("freeze_mode", {"low": 1, "high": 2}, "choices or a constant"),
        ("epochs", [{"low": 1, "high": 2, "when": {"freeze_mode": "partial"}}], "is never 'partial'"),
        ("epochs", [{"low": 1, "high": 2, "when": {"learning_rate": 0.1}}], "learning_rate is a range"),
        ("epochs", [{"low": 1, "high": 2}, {"low": 3, "high": 4}], "2 alternatives hold where always"),
        ("epochs", [{"low": 1, "high": 2, "when": {"epochs": 1}}], "another parameter is needed"),
    ],
)
def test_a_mistake_is_named_with_its_place(name: str, entry: object, said: str) -> None:
    message = mistakes({"parameters": {**VALID, name: entry}})

    assert message.startswith(f"mine.toml: parameters.{name}")
    assert said in message


def test_all_mistakes_are_named_at_once() -> None:
    message = mistakes({"parameters": {"lerning_rate": 1, "epochs": 0}, "enque": []})

    assert "did you mean learning_rate?" in message
    assert len(message.splitlines()) == 6


def test_conditions_in_a_circle_are_refused() -> None:
    circle = {
        **VALID,
        "epochs": [{"choices": [1], "when": {"batch_size": 1}}],
        "batch_size": [{"choices": [1], "when": {"epochs": 1}}],
    }

    assert "in a circle" in mistakes({"parameters": circle})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"epochs": 15}, "15 is not in the search space, which has low = 10, high = 50, step = 10"),
        ({"batch_size": 64}, "64 is not in the search space"),
        ({"lr": 1}, "lr: unknown"),
        ({"freeze_mode": "partial"}, "not in the search space"),
    ],
)
def test_an_enqueued_value_outside_the_space_is_refused(entry: dict[str, Any], said: str) -> None:
    assert said in mistakes({"parameters": VALID, "enqueue": [entry]})


def test_a_condition_decides_the_range() -> None:
    space = search_spaces.builtin("vit", "default")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    drawn = [search_spaces.suggest(space, study.ask()) for _ in range(200)]

    fine_tuned = [float(values["learning_rate"]) for values in drawn if values["freeze_mode"] != "backbone"]
    frozen = [float(values["learning_rate"]) for values in drawn if values["freeze_mode"] == "backbone"]
    assert max(fine_tuned) <= 5e-4 < max(frozen) <= 1e-2


def test_a_file_that_only_enqueues_takes_the_backbones_parameters(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[[enqueue]]\nepochs = 20\n", encoding="utf-8")
    base = search_spaces.builtin("simclr", "default")

    space = search_spaces.load(path, base)

    assert space.parameters == base.parameters
    assert space.enqueue == ({"epochs": 20},)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="No such file"):
        search_spaces.load(tmp_path / "none.toml", search_spaces.builtin("vgg", "default"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file_with_a_byte_order_mark_is_read(encoding: str, line_end: str, tmp_path: Path) -> None:
    text = 'learning_rate = 1e-3 # é\nbatch_size = 4\nepochs = 1\nfreeze_mode = "none"\n'
    path = tmp_path / "space.toml"
    path.write_bytes(f"[parameters]\n{text}".replace("\n", line_end).encode(encoding))

    space = search_spaces.load(path, search_spaces.builtin("vgg", "default"))

    assert space.smallest_batch("none") == 4


def test_the_smallest_batch_depends_on_the_freeze_mode() -> None:
    space = search_spaces.from_dict(
        {
            "parameters": {
                "learning_rate": 1e-3,
                "batch_size": [
                    {"low": 1, "high": 8, "when": {"freeze_mode": "backbone"}},
                    {"low": 2, "high": 8, "when": {"freeze_mode": ["none", "partial"]}},
                ],
                "epochs": 1,
                "freeze_mode": {"choices": ["none", "partial", "backbone"]},
            }
        },
        "here",
    )

    assert [space.smallest_batch(mode) for mode in ("none", "partial", "backbone")] == [2, 2, 1]


OWN: dict[str, Any] = {
    "epochs": 3,
    "rate": {"low": 1e-3, "high": 1, "log": True},
    "depth": {"low": 1, "high": 9, "step": 2},
    "shape": {"choices": ["round", "square", 3, 0.5, False]},
    "width": [
        {"low": 0, "high": 4, "when": {"shape": "round"}},
        {"low": -2.5, "high": 0, "when": {"shape": ["square", 3, 0.5, False]}},
    ],
}


def test_a_trainable_of_ones_own_has_the_parameters_that_it_likes() -> None:
    space = search_spaces.from_dict({"parameters": OWN}, "own.toml", trainable="mine:train")
    document = json.loads(json.dumps(search_spaces.to_dict(space)))

    values = search_spaces.suggest(space, optuna.create_study().ask())

    assert list(space.parameters) == ["epochs", "rate", "depth", "shape", "width"]
    assert values.keys() == OWN.keys()
    assert isinstance(values["depth"], int)
    assert (space.freeze_modes, space.max_epochs) == (frozenset(), 3)
    again = search_spaces.from_dict(document, "own.toml", trainable="mine:train")
    assert again == space
    assert list(again.parameters) == list(space.parameters)


@pytest.mark.parametrize(
    ("trainable", "name", "entry", "said"),
    [
        ("mine:train", "two words", 1, "parameters.two words: unknown"),
        (
            "mine:train",
            "seconds",
            1,
            "epochs, freeze_mode and names of your own",
        ),
        ("mine:train", "rate", {"low": "a", "high": 2}, "low: a number is needed, but it is 'a'"),
        ("mine:train", "rate", {"low": 0, "high": 2, "log": True}, "low: log = true needs a number above 0"),
        ("mine:train", "rate", {"low": 1, "high": 2, "step": 0}, "step: a number above 0 is needed"),
        ("mine:train", "rate", {"choices": [float("inf")]}, "a number, a text, true or false is needed, but it is inf"),
        ("mine:train", "batch_size", 0.5, "a whole number from 1 to 65536 is needed"),
        ("mine:train", "epochs", "many", "a whole number from 1 to 100000 is needed"),
        ("simclr-pretrain", "freeze_mode", "none", "parameters.freeze_mode: unknown; allowed are temperature"),
        ("simclr-pretrain", "strength", 3, "a number from 0 to 2 is needed, but it is 3"),
        ("simclr-pretrain", "min_crop", 0, "a number above 0 to 1 is needed, but it is 0"),
        ("simclr-pretrain", "flip", 1, "true or false is needed, but it is 1"),
        ("simclr-pretrain", "flip", {"low": 0, "high": 1}, "choices or a constant is needed, of true or false"),
        ("simclr-pretrain", "optimizer", "sgd", "one of lars, adam is needed, but it is 'sgd'"),
    ],
)
def test_a_mistake_in_the_space_of_another_trainable_is_named(
    trainable: str, name: str, entry: object, said: str
) -> None:
    with pytest.raises(SpaceError) as caught:
        search_spaces.from_dict({"parameters": {"epochs": 3, name: entry}}, "own.toml", trainable=trainable)

    assert said in str(caught.value)


@QUICK
@given(st.dictionaries(st.sampled_from(["epochs", "rate", "batch_size", "a b", "flip"]), toml_values))
def test_any_parameters_of_ones_own_are_a_space_or_are_refused(parameters: dict[str, Any]) -> None:
    for trainable in ("mine:train", "simclr-pretrain"):
        try:
            space = search_spaces.from_dict({"parameters": parameters}, "fuzz", trainable=trainable)
        except SpaceError:
            continue
        document = json.loads(json.dumps(search_spaces.to_dict(space)))
        assert search_spaces.from_dict(document, "fuzz", trainable=trainable) == space
        assert search_spaces.suggest(space, optuna.create_study().ask()).keys() == space.parameters.keys()


def test_a_trainable_has_its_own_space_or_needs_a_file(tmp_path: Path) -> None:
    space = search_spaces.for_study("resnet18", "default", None, "simclr-pretrain")

    assert [one["min_crop"] for one in space.enqueue] == [0.5, 0.08]
    assert space.max_epochs == 100
    with pytest.raises(SpaceError, match="--trainable mine:train: has no search space of its own"):
        search_spaces.for_study("resnet18", "default", None, "mine:train")
    (tmp_path / "mine.toml").write_text("[[enqueue]]\nepochs = 2\n", encoding="utf-8")
    with pytest.raises(SpaceError, match="parameters: a table with epochs is needed"):
        search_spaces.for_study("resnet18", "default", tmp_path / "mine.toml", "mine:train")
