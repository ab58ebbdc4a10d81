"""A published run reads held-out test at the epochs asked for; each switch of its protocol does one thing."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from trainables.config import (
    DataConfig,
    EpochResult,
    HeadKind,
    MachineConfig,
    ModelConfig,
    TrainableConfig,
    TrialConfig,
)
from trainables.data.held_out import held_out_images
from trainables.errors import InputError
from trainables.predictions import TEST_PREDICTIONS, unpack
from trainables.published.protocol import Protocol, parse_reads, reads_text
from trainables.published.run import SPLIT_SEED, TEST_EPOCH, TEST_LABELS, run_published
from trainables.trainable import PUBLISHED, run
from trainables.training import trial
from trainables.training.epoch import EVALUATION_BATCH, Examples, Learner, predict
from trainables.training.trial import begin, run_epoch


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ResNet-18 of random values without a final layer, as a SimCLR encoder comes."""
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    torch.manual_seed(0)
    state = get_model("resnet18", weights=None).state_dict()
    save_file({name: value for name, value in state.items() if not name.startswith("fc.")}, path)
    return str(path)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("data"))


Asked = dict[str, Any]
SOUND = Protocol()


@pytest.fixture
def tiny(data_dir: str) -> Asked:
    """The same of a network that trains in no time."""
    return {"backbone": "tests.tiny_backbone:tiny", "weights": "default", "data_dir": data_dir}


@pytest.fixture
def asked(encoder: str, data_dir: str) -> Asked:
    """Most of a configuration."""
    return {"weights": encoder, "data_dir": data_dir}


def config(
    asked: Asked,
    protocol: Protocol = SOUND,
    *,
    reads: tuple[int, ...] = (1, 3),
    freeze_mode: str = "none",
    head: HeadKind = "paper",
    learning_rate: float = 3e-3,
) -> TrainableConfig:
    params: dict[str, float | int | str] = {
        "learning_rate": learning_rate,
        "batch_size": 32,
        "epochs": reads[-1],
        "freeze_mode": freeze_mode,
        "protocol": str(protocol),
        "reads": reads_text(reads),
    }
    return TrainableConfig(
        data=DataConfig(dataset="digits", label_fraction=0.1, val_fraction=0.1),
        model=ModelConfig(
            backbone=asked.get("backbone", "resnet18"),
            weights=asked["weights"],
            head=head,
            image_size=16,
            precision="fp32",
        ),
        params=params,
        seed=3,
        machine=MachineConfig(data_dir=asked["data_dir"]),
    )


def untimed(results: list[EpochResult]) -> list[EpochResult]:
    """What must repeat."""
    return [dataclasses.replace(one, seconds=0.0, images_per_second=0.0) for one in results]


def labels(result: EpochResult) -> np.ndarray:
    return unpack(str(result.extra[TEST_LABELS]))


def predicted(result: EpochResult) -> np.ndarray:
    return unpack(str(result.extra[TEST_PREDICTIONS]))


def test_test_is_read_at_the_epochs_that_were_asked_for(tiny: Asked) -> None:
    own = config(tiny, reads=(1, 3), head="linear")

    results = list(run_published(own))

    assert [one.epoch for one in results if one.extra] == [1, 3]
    expected = held_out_images(own.data, tiny["data_dir"])
    assert all(np.array_equal(labels(one), expected.labels) for one in (results[0], results[2]))


def test_weights_that_were_best_on_validation_are_judged_or_as_the_paper_did_it_the_last(tiny: Asked) -> None:
    reads = tuple(range(1, 11))

    best = list(run_published(config(tiny, head="linear", reads=reads, learning_rate=1e-2)))
    last = list(run_published(config(tiny, Protocol(last_epoch=True), head="linear", reads=reads, learning_rate=1e-2)))

    assert [one.val_accuracy for one in best] == [one.val_accuracy for one in last]
    judged = [int(one.extra[TEST_EPOCH]) for one in best]
    assert judged == [max(best[:epoch], key=lambda one: one.val_accuracy).epoch for epoch in reads]
    assert judged != list(reads), "an epoch that is not the best so far is needed"
    assert [one.extra[TEST_EPOCH] for one in last] == list(reads)
    assert all(
        np.array_equal(predicted(one), predicted(last[epoch - 1])) for one, epoch in zip(best, judged, strict=True)
    )


@pytest.mark.parametrize(
    "protocol",
    [Protocol(), Protocol(frozen_random_layer=True, training_mode=True, unseeded_split=True, last_epoch=True)],
    ids=str,
)
@pytest.mark.parametrize("freeze_mode", ["none", "backbone"])
def test_a_run_continues_number_for_number(asked: Asked, tiny: Asked, protocol: Protocol, freeze_mode: str) -> None:
    own = (
        config(tiny, protocol, head="linear")
        if freeze_mode == "none"
        else config(asked, protocol, freeze_mode=freeze_mode)
    )
    saved: list[bytes] = []
    whole = list(run_published(own, save=saved.append))

    resumed = list(run_published(own, resume_from=saved[0]))

    assert untimed(resumed) == untimed(whole)


@pytest.mark.parametrize(
    ("protocol", "trained"),
    [(Protocol(), {"fc.0", "fc.2"}), (Protocol(frozen_random_layer=True), {"fc.2"})],
    ids=["sound", "frozen_random_layer"],
)
def test_transfer_learning_trains_a_random_layer_unless_the_paper_froze_it(
    asked: Asked, protocol: Protocol, trained: set[str]
) -> None:
    saved: list[bytes] = []

    list(run_published(config(asked, protocol, reads=(1,), freeze_mode="backbone"), save=saved.append))

    state = torch.load(io.BytesIO(saved[0]), weights_only=True)
    assert {name.rpartition(".")[0] for name in state["model"]} == trained


def test_an_unseeded_split_is_another_one_each_time_and_says_its_seed(tiny: Asked) -> None:
    own = config(tiny, Protocol(unseeded_split=True), reads=(1,), head="linear")

    first, second = (next(run_published(own)) for _ in range(2))

    assert first.extra[SPLIT_SEED] != second.extra[SPLIT_SEED]
    assert first.val_predictions == second.val_predictions == ""
    assert (first.val_loss, first.train_loss) != (second.val_loss, second.train_loss)


def test_in_training_mode_an_images_answer_depends_on_its_batch(asked: Asked) -> None:
    learner, data = in_training_mode(config(asked))
    alone, beside = np.arange(32), np.arange(64)

    def differ(always_training: bool) -> float:
        judged = dataclasses.replace(learner, always_training=always_training)
        return float((predict(judged, data.examples, alone) - predict(judged, data.examples, beside)[:32]).abs().max())

    assert differ(always_training=False) < 1e-4
    assert differ(always_training=True) > 1e-2


def in_training_mode(own: TrainableConfig, micro_batch: int | None = None) -> tuple[Learner, trial.TrainingData]:
    """Return an untrained learner that is never put into eval mode, and its data."""
    params: dict[str, Any] = {name: own.params[name] for name in ("learning_rate", "batch_size", "epochs")}
    machine = dataclasses.replace(own.machine, micro_batch=micro_batch)
    learner, data = begin(TrialConfig(data=own.data, model=own.model, machine=machine, seed=own.seed, **params))
    return dataclasses.replace(learner, always_training=True), data


@pytest.mark.parametrize("backbone", ["resnet18", "tests.tiny_backbone:tiny"], ids=["batch norm", "dropout"])
def test_in_training_mode_answers_do_not_depend_on_the_memory_of_a_machine(asked: Asked, backbone: str) -> None:
    weights = asked["weights"] if backbone == "resnet18" else "default"
    own = config({**asked, "backbone": backbone, "weights": weights}, head="linear")

    large, small = (
        predict(learner, data.examples, data.splits.train)
        for learner, data in (in_training_mode(own), in_training_mode(own, micro_batch=8))
    )

    assert torch.equal(large, small)


def test_in_training_mode_classes_that_follow_each_other_are_mixed_and_answers_stay_in_order(data_dir: str) -> None:
    # Without batch norm or dropout, so that an image's answer is its own in either mode.
    learner, _ = in_training_mode(
        config({"backbone": "tests.tiny_backbone:tinier", "weights": "default", "data_dir": data_dir}, head="linear")
    )
    labels = np.arange(10).repeat(20)
    grey = np.broadcast_to((labels * 20).astype(np.uint8)[:, None, None, None], (200, 3, 16, 16)).copy()
    examples = Examples(grey, torch.from_numpy(labels))
    seen: list[torch.Tensor] = []
    learner.network.model.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, 0, 0, 0]))

    mixed = predict(learner, examples, np.arange(200))
    batches, seen = seen[:], []
    plain = predict(dataclasses.replace(learner, always_training=False), examples, np.arange(200))

    assert [len(batch) for batch in batches] == [EVALUATION_BATCH] * 3 + [200 - 3 * EVALUATION_BATCH]
    assert all(len(set(batch[:8].tolist())) > 3 for batch in batches)
    torch.testing.assert_close(mixed, plain)


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(last_epoch=True)], ids=str)
def test_where_a_run_diverges_test_is_read_for_all_that_was_still_to_be_read(
    tiny: Asked, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(run_published(config(tiny, protocol, reads=(1, 2), head="linear")))

    def diverging(learner: Learner, *rest: Any) -> EpochResult:
        if rest[-1] == 3:
            with torch.no_grad():
                next(learner.network.model.parameters()).fill_(torch.nan)
        return run_epoch(learner, *rest)

    monkeypatch.setattr("trainables.published.run.run_epoch", diverging)
    results = []
    # As a worker does, which closes what has diverged.
    for one in run(PUBLISHED, config(tiny, protocol, reads=(2, 5, 9), head="linear")):
        results.append(one)
        if not one.is_finite:
            break

    last = results[-1]
    assert [bool(one.extra) for one in results] == [False, True, True]
    if protocol.last_epoch:
        assert last.extra[TEST_EPOCH] == 3
        assert set(predicted(last)) == {0}
    else:
        best = max(before, key=lambda one: one.val_accuracy)
        assert last.extra[TEST_EPOCH] == best.epoch
        assert np.array_equal(predicted(last), predicted(best))


def test_in_training_mode_no_features_are_stored(asked: Asked, tmp_path: Path) -> None:
    for name, protocol in (("stored", Protocol()), ("none", Protocol(training_mode=True))):
        folder = tmp_path / name
        own = config(
            {**asked, "data_dir": str(folder)}, protocol, reads=(1,), freeze_mode="backbone", head="projection"
        )
        list(run_published(own))

        assert bool(list(folder.rglob("features/*.npy"))) == (name == "stored")


@pytest.mark.parametrize(
    "protocol", [Protocol(), Protocol(training_mode=True), Protocol(unseeded_split=True, last_epoch=True)]
)
def test_a_protocol_is_a_text_and_back(protocol: Protocol) -> None:
    assert Protocol.parse(str(protocol)) == protocol


def test_a_switch_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"no switches are eval_mode; there are .*training_mode"):
        Protocol.parse("eval_mode")
    with pytest.raises(InputError, match=r"epochs such as 10 20 50 are needed, but it is '10, 20'"):
        parse_reads("10, 20")


def test_the_epochs_to_read_are_a_text_and_back() -> None:
    assert parse_reads(reads_text((10, 20, 50))) == (10, 20, 50)
