"""One step: its gradient, part by part and over several processes, is that of the loss over the whole batch."""

import dataclasses
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.config import DataConfig, MachineConfig
from trainables.contrastive.config import PretrainMachine, ViewConfig, composed
from trainables.contrastive.encoder import SimCLR
from trainables.contrastive.nt_xent import nt_xent
from trainables.contrastive.pretraining import drawn_views, new_learner
from trainables.contrastive.processes import ALONE, Processes, joined
from trainables.contrastive.step import Learner, both_views, train_step

CONFIG = composed(
    DataConfig(dataset="digits"),
    "small:resnet18",
    8,
    {"batch_size": 8, "epochs": 1, "projection": 16, "optimizer": "lars", "learning_rate": 3.0},
    knn_every=1,
    precision="fp32",
    seed=0,
)
PIXELS = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (8, 3, 8, 8), np.uint8))


def learner(processes: Processes = ALONE, micro_batch: int | None = None) -> Learner:
    return new_learner(CONFIG, PretrainMachine(machine=MachineConfig(micro_batch=micro_batch)), processes)


def without_batch_norm(made: Learner) -> Learner:
    """Put a network in whose images do not see each other: there parts of a batch give exactly what the whole does."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(54, 12))
    network = SimCLR(encoder, nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 8)))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    return dataclasses.replace(made, network=network, optimizer=optimizer)


def gradients(made: Learner) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in made.network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("micro_batch", [None, 1, 3, 8])
def test_the_gradient_in_parts_is_that_of_the_whole_batch(micro_batch: int | None) -> None:
    made = without_batch_norm(learner(micro_batch=micro_batch))
    drawn = drawn_views(CONFIG, 1, 0)
    views = both_views(made, PIXELS, drawn)
    loss = nt_xent(made.network(views).view(2, 8, -1), CONFIG.temperature)
    expected = torch.autograd.grad(loss, list(made.network.parameters()))

    figures = train_step(made, PIXELS, drawn)

    assert float(figures[0]) == pytest.approx(loss.item(), rel=1e-6)
    for own, one in zip(gradients(made), expected, strict=True):
        assert torch.allclose(own, one, rtol=1e-4, atol=1e-7)


def test_batch_norm_notes_each_image_once_where_a_batch_is_cut() -> None:
    made = learner(micro_batch=4)

    train_step(made, PIXELS, drawn_views(CONFIG, 1, 0))

    counts = {int(v) for name, v in made.network.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {2}


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_views_are_made_in_float32_where_the_network_computes_in_less(micro_batch: int | None) -> None:
    config = dataclasses.replace(CONFIG, precision="bf16", views=ViewConfig(blur=1.0), optimizer="adam")
    machine = PretrainMachine(machine=MachineConfig(micro_batch=micro_batch))
    made = new_learner(config, machine)

    figures = train_step(made, PIXELS, drawn_views(config, 1, 0))

    assert made.compute.autocast is torch.bfloat16
    assert both_views(made, PIXELS, drawn_views(config, 1, 0)).dtype is torch.float32
    assert figures.isfinite().all()


def two_steps(processes: Processes) -> dict[str, Any]:
    made, found = learner(processes), dict[str, Any]()
    for step in range(2):
        own = processes.share(CONFIG.batch_size)
        first, second = drawn_views(CONFIG, 1, step)
        figures = train_step(made, PIXELS[own], (first.part(own), second.part(own)))
        found[f"figures {step}"] = figures
        found[f"gradients {step}"] = gradients(made)
    return {**found, "state": dict(made.network.state_dict())}


def take_part(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    with joined(rank, 2, folder / "meeting") as processes:
        torch.save(two_steps(processes), folder / f"{rank}.pt")


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=take_part, args=(1, tmp_path), daemon=True)
    other.start()
    take_part(0, tmp_path)
    other.join(60)

    alone = two_steps(ALONE)
    for rank in range(2):
        shared = torch.load(tmp_path / f"{rank}.pt")
        for step in range(2):
            assert torch.allclose(shared[f"figures {step}"], alone[f"figures {step}"], rtol=1e-4, atol=1e-5)
            for own, one in zip(shared[f"gradients {step}"], alone[f"gradients {step}"], strict=True):
                assert float((own - one).norm()) <= 1e-3 * float(one.norm()) + 1e-6
        assert shared["state"].keys() == alone["state"].keys()
        for name, values in alone["state"].items():
            assert torch.allclose(shared["state"][name], values, rtol=1e-3, atol=1e-4), name
