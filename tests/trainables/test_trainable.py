"""A trainable is found by its name, and one that does not keep to the protocol is told so in a sentence."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import search_spaces
from hpo.views.frames import trial_row
from search_spaces.parameters import RESERVED
from tests.makers import trial_record
from trainables import trainable
from trainables.config import DataConfig, EpochResult, ModelConfig, TrainableConfig
from trainables.errors import InputError

CONFIG = TrainableConfig(
    data=DataConfig(dataset="digits"), model=ModelConfig(backbone="resnet18"), params={"epochs": 2}
)
HERE = __name__
yields: list[Any] = []


def given(config: TrainableConfig, *, resume_from: bytes | None, save: object) -> Iterator[Any]:
    """Yield what a test asks for."""
    yield from yields


def without_save(config: TrainableConfig) -> Iterator[EpochResult]:
    """Cannot be given a state."""
    yield from ()


def returning(config: TrainableConfig, *, resume_from: bytes | None, save: object) -> float:
    """Is no generator."""
    return 0.5


@pytest.mark.parametrize("name", trainable.BUILT_IN)
def test_a_built_in_trainable_is_there_and_has_no_digest(name: str) -> None:
    assert callable(trainable.resolve(name))
    assert trainable.digest(name) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("finetun", "did you mean finetune?"),
        ("no_such_module:train", "cannot be imported (ModuleNotFoundError"),
        ("__main__:train", "put it into a file of its own"),
        (f"{HERE}:nothing", "cannot be imported (AttributeError"),
        (f"{HERE}:HERE", "cannot be called"),
        (f"{HERE}:without_save", "cannot be called"),
    ],
)
def test_what_is_no_trainable_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        trainable.digest(name)

    assert str(caught.value).startswith(f"--trainable {name}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_file_is_refused() -> None:
    name = f"{HERE}:given"
    trainable.verify(name, trainable.digest(name))

    with pytest.raises(InputError, match="is not what the study was started with"):
        trainable.verify(name, "0" * 64)


def one(epoch: int, **changes: Any) -> EpochResult:
    return EpochResult(**{"epoch": epoch, "val_accuracy": 0.5, **changes})


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([0.5], "yielded a float for epoch 1; it must yield trainables.config.EpochResult"),
        ([None], "yielded nothing for epoch 1"),
        ([one(2)], "yielded epoch 2 where 1 comes next"),
        ([one(1), one(1)], "yielded epoch 1 where 2 comes next"),
        ([one(1)], "ended after epoch 1 of 2"),
        ([one(1, val_accuracy=50.0)], "a val_accuracy of 50.0 for epoch 1; it lies in 0 to 1"),
        ([one(1, val_accuracy=float("nan"))], "a val_accuracy of nan"),
        ([one(1, val_accuracy="0.5")], "yielded a str as val_accuracy of epoch 1; it must be a number"),
        ([one(1, train_loss=[1.0])], "yielded a list as train_loss"),
        ([one(1, extra={"f1": None})], "yielded nothing as extra f1"),
        ([one(1, extra={1: 2.0})], "yielded a int for epoch 1 where a text is needed"),
        ([one(1, extra=[0.5])], "yielded a list as extra of epoch 1; it must be a dict"),
        ([one(1, extra={"host": 1.0})], "an extra host, which is the name of another figure"),
    ],
)
def test_what_is_no_result_is_named(results: list[Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{HERE}.yields", results)

    with pytest.raises(InputError) as caught:
        list(trainable.run(f"{HERE}:given", CONFIG))

    assert said in str(caught.value)
    assert str(caught.value).startswith(f"--trainable {HERE}:given: ")


def test_a_trial_that_diverged_may_have_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{HERE}.yields", [one(1, val_accuracy=float("nan"), train_loss=float("inf"))])

    result = next(trainable.run(f"{HERE}:given", CONFIG))

    assert (result.val_accuracy, result.is_finite) == (0.0, False)


def test_a_function_that_returns_is_named() -> None:
    with pytest.raises(InputError, match="returned a float, not a generator"):
        next(trainable.run(f"{HERE}:returning", CONFIG))


def test_results_are_taken_in_plain_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [one(1, val_accuracy=np.float32(0.25), extra={"f1": np.float64(0.5), "note": "a"}), one(2, seconds=3)]
    monkeypatch.setattr(f"{HERE}.yields", [*asked, "never asked for"])

    running = trainable.run(f"{HERE}:given", CONFIG)
    first, second = next(running), next(running)

    assert (type(first.val_accuracy), first.val_accuracy) == (float, 0.25)
    assert (type(first.extra["f1"]), dict(first.extra)) == (float, {"f1": 0.5, "note": "a"})
    assert first.seconds > 0
    assert second.seconds == 3


def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "trainables.md").read_text(encoding="utf-8")
    for language, name in (("python", "mine.py"), ("toml", "mine.toml")):
        (tmp_path / name).write_text(page.split(f"```{language}\n")[1].split("```")[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    space = search_spaces.for_study("resnet18", "none", tmp_path / "mine.toml", "mine:train")
    params = search_spaces.suggest(space, optuna.create_study().ask())
    config = dataclasses.replace(CONFIG, params=params)

    running = trainable.run("mine:train", config)
    results = [next(running) for _ in range(config.epochs)]
    again = trainable.run("mine:train", config)

    assert [one.val_accuracy for one in results] == [next(again).val_accuracy for _ in results]
    assert results[-1].val_accuracy > results[0].val_accuracy
    assert trainable.digest("mine:train") is not None


def test_no_parameter_can_have_the_name_of_a_column() -> None:
    record = trial_record(0, "COMPLETE", [0.5])

    assert trial_row(record).keys() - record.params.keys() <= RESERVED
