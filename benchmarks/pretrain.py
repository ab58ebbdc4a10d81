"""What `hpo pretrain` is worth and what it costs, on real images.

``python -m benchmarks.pretrain quality [DATASET ...]``: test accuracy of logistic regression on frozen features with 1,
5, 10 and 100 % of the labels, after SimCLR, on the same network with random values, and on raw pixels; mean and range.
``python -m benchmarks.pretrain speed``: what share of a step views take, and images per second beside a loader that
makes them image by image, of Lightly where it is installed (``pip install lightly``), else of torchvision.
"""

import argparse
import dataclasses
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.retrain_data import subset
from trainables.config import DataConfig, MachineConfig
from trainables.contrastive.config import PretrainConfig, PretrainedEncoder, PretrainMachine, composed, view_geometry
from trainables.contrastive.nt_xent import nt_xent
from trainables.contrastive.pretraining import drawn_views, features, new_learner, open_pretrain_data, pretrain
from trainables.contrastive.step import Learner, both_views, train_step
from trainables.contrastive.together import threads_of
from trainables.data.datasets import LabelledImages, stratified_share, training_images
from trainables.data.held_out import held_out_images
from trainables.data.image_store import open_store

SIZE = 32
FRACTIONS = (0.01, 0.05, 0.1, 1.0)
VAL_FRACTION = 0.1
Features = Callable[[np.ndarray], np.ndarray]


def config(dataset: str, seed: int, options: argparse.Namespace) -> PretrainConfig:
    """Return the pretraining of a dataset; digits are not mirrored, for a mirrored digit is another sign."""
    return composed(
        DataConfig(dataset=dataset, val_fraction=VAL_FRACTION, layouts="recognised"),
        f"{options.stem}:resnet18",
        SIZE,
        vars(options) | {"flip": dataset != "digits"},
        knn_every=max(1, options.epochs // 5),
        precision="auto",
        seed=seed,
    )


def machine(options: argparse.Namespace) -> PretrainMachine:
    """Return all CPUs of this machine."""
    return PretrainMachine(machine=MachineConfig(data_dir=str(options.data_dir), threads=threads_of(1)))


def quality(dataset: str, options: argparse.Namespace) -> None:
    """Pretrain on one dataset with each seed, and print the table of its probes."""
    found: dict[tuple[str, float], list[float]] = {}
    asked, begun = config(dataset, 0, options), time.perf_counter()
    known, tested = (read(asked.data, str(options.data_dir)) for read in (training_images, held_out_images))
    pixels = [decoded(images, SIZE, machine(options)) for images in (known, tested)]
    kinds = ("SimCLR", "random network", "raw pixels")
    for seed in range(options.seeds):
        asked = config(dataset, seed, options)
        for kind, of in zip(kinds, (trained(asked, options), random(asked, options), raw), strict=True):
            train, test = map(of, pixels)
            for fraction in FRACTIONS:
                chosen = labelled(known.labels, fraction, seed)
                accuracy = probe(train[chosen], known.labels[chosen], test, tested.labels)
                found.setdefault((kind, fraction), []).append(accuracy)
    seconds = (time.perf_counter() - begun) / options.seeds
    sys.stdout.write(
        f"\n{dataset}: {len(known.labels)} training images, {len(tested.labels)} test images, {options.seeds} seeds,"
        f" {options.epochs} epochs, {seconds:.0f} s per seed\n\n"
        f"| labels | {' | '.join(kinds)} |\n|---:|{'---:|' * len(kinds)}\n"
    )
    for fraction in FRACTIONS:
        cells = (found[kind, fraction] for kind in kinds)
        row = " | ".join(f"{np.mean(one):.3f} ({min(one):.3f} to {max(one):.3f})" for one in cells)
        sys.stdout.write(f"| {fraction:.0%} | {row} |\n")
    sys.stdout.flush()


def decoded(images: LabelledImages, size: int, machine: PretrainMachine) -> np.ndarray:
    """Return the pixels of a split at the size of the encoder's input."""
    return open_store(images, view_geometry(size), machine.machine.data_dir, machine.machine.cache_bytes)


def trained(asked: PretrainConfig, options: argparse.Namespace) -> Features:
    """Pretrain, and return what gives the features."""
    learner = new_learner(asked, machine(options))
    for result in pretrain(asked, machine(options)):
        if isinstance(result, PretrainedEncoder):
            learner.network.encoder.load_state_dict(load(result.encoder))
        else:
            sys.stderr.write(f"{asked.data.dataset}, seed {asked.seed}: {result}\n")
    return of_network(learner)


def random(asked: PretrainConfig, options: argparse.Namespace) -> Features:
    """Return what gives the features of the network before its first step."""
    return of_network(new_learner(asked, machine(options)))


def of_network(learner: Learner) -> Features:
    """Return what gives the features of a network."""
    return lambda pixels: features(learner, pixels, np.arange(len(pixels))).cpu().numpy()


def raw(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as features."""
    return pixels.reshape(len(pixels), -1) / 255


def labelled(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return the images that keep their labels: `fraction` of each class, at least one."""
    return np.arange(len(labels)) if fraction == 1 else stratified_share(labels, fraction, seed)


def probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> float:
    """Return the test accuracy of logistic regression (scikit-learn's defaults, standardised features)."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(model.fit(train, labels).score(test, test_labels))


class Pictures(Dataset[Any]):
    """Images one by one, each decoded and transformed when it is asked for."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], Any]) -> None:
        self._images = [Image.fromarray(one) for one in pixels.transpose(0, 2, 3, 1)]
        self._transform = transform

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        """Return two views of an image."""
        return self._transform(self._images[index])


def peer() -> tuple[str, Callable[[Image.Image], Any], Callable[[Any, Any], Any]]:
    """Return the other's name, its transform and its loss."""
    if importlib.util.find_spec("lightly") is not None:
        transforms, loss = importlib.import_module("lightly.transforms"), importlib.import_module("lightly.loss")
        return "Lightly", transforms.SimCLRTransform(input_size=SIZE, gaussian_blur=0.0), loss.NTXentLoss(0.5)
    view = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=(0.08, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
            v2.Normalize(view_geometry(SIZE).mean, view_geometry(SIZE).std),
        ]
    )
    return "torchvision", lambda image: (view(image), view(image)), lambda a, b: nt_xent(torch.stack([a, b]), 0.5)


def speed(options: argparse.Namespace) -> None:
    """Print the share of views in a step, and images per second beside the other's."""
    # All in float32: the other's loop has no autocast.
    asked = dataclasses.replace(config("digits", 0, options), precision="fp32")
    data, learner = open_pretrain_data(asked, machine(options)), new_learner(asked, machine(options))
    size = asked.batch_size
    batches = np.array_split(data.splits.train, len(data.splits.train) // size)
    batches = [batch[:size] for batch in batches if len(batch) >= size]
    pixels = [torch.from_numpy(data.pixels[batch]) for batch in batches]
    learner.network.train()

    def views() -> None:
        for step, one in enumerate(pixels):
            both_views(learner, one, drawn_views(asked, 1, step))

    def steps() -> None:
        for step, batch in enumerate(batches):
            train_step(learner, torch.from_numpy(data.pixels[batch]), drawn_views(asked, 1, step))

    name, transform, loss = peer()
    shown = np.concatenate(batches)
    loader = DataLoader(
        Pictures(np.array(data.pixels[shown]), transform),
        size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    other = new_learner(asked, machine(options))
    other.network.train()

    def peers_steps() -> None:
        for first, second in loader:
            projections = other.network(torch.cat([first, second]))
            other.optimizer.zero_grad()
            loss(*projections.chunk(2)).backward()
            other.optimizer.step()

    def forward_and_backward() -> None:
        for one in inputs:
            learner.network(one).sum().backward()

    inputs = [both_views(learner, one, drawn_views(asked, 1, step)) for step, one in enumerate(pixels)]
    table = {"views": views, "encoder's forward and backward": forward_and_backward, "our epoch": steps}
    table |= {f"{name}'s views": lambda: exhaust(loader), f"{name}'s epoch": peers_steps}
    for words, what in table.items():
        seconds = timed(what, options.rounds)
        sys.stdout.write(f"{words}: {len(shown) / seconds:.0f} images/s, {seconds:.2f} s\n")


def exhaust(loader: DataLoader[Any]) -> None:
    """Take all batches."""
    for _ in loader:
        pass


def timed(what: Callable[[], None], rounds: int) -> float:
    """Return the median seconds of `rounds` calls, after one that is not counted."""
    what()
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        what()
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quality", "speed"])
    parser.add_argument("datasets", nargs="*", default=["digits", "fashion"])
    parser.add_argument("--data-dir", type=Path, default=Path(".bench"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--stem", choices=["torchvision", "small"], default="torchvision")
    parser.add_argument("--optimizer", choices=["adam", "lars"])
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--strength", type=float)
    parser.add_argument("--min-crop", type=float)
    parser.add_argument("--images", type=int, default=2000, help="of Fashion-MNIST")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.what == "speed":
        speed(options)
        return
    for name in options.datasets:
        quality(fashion(options.data_dir, options.images) if name == "fashion" else name, options)


def fashion(data_dir: Path, images: int) -> str:
    """Write a subset of Fashion-MNIST that is not there yet, and return the dataset."""
    data = DataConfig(dataset="fashion-mnist")
    known, tested = (read(data, str(data_dir)) for read in (training_images, held_out_images))
    return subset(data_dir.absolute(), f"fashion-{images}", known, tested, range(10), images)


if __name__ == "__main__":
    main()
