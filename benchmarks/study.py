"""A study of 16 fixed configurations by hpo, by the usual Ray Tune script, and one by one: time, memory, ratios.

``python -m benchmarks.study [--folder IMAGEFOLDER]``: without a folder, scikit-learn's digits are written as JPEGs.
Every run starts cold: no decoded images, no features, no warm process.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import tomli_w
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.models import resnet18

PEERS = Path(__file__).parent / "peers"
HPO = Path(sys.executable).with_name("hpo")
SAMPLE_S = 0.5


@dataclass(frozen=True)
class Cost:
    """What a run took."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    """Most memory that its processes held together, shared pages counted once a process (PSS)."""


def configurations(freeze_mode: str, epochs: tuple[int, int]) -> list[dict[str, Any]]:
    """Return eight: two learning rates, two batch sizes, two lengths."""
    return [
        {"learning_rate": rate, "batch_size": size, "epochs": length, "freeze_mode": freeze_mode}
        for rate in (1e-4, 1e-3)
        for size in (32, 64)
        for length in epochs
    ]


def measure(command: list[str], folder: Path, environment: dict[str, str]) -> Cost:
    """Run `command` to its end and watch its processes.

    Raises:
        RuntimeError: It failed.
    """
    begun = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        cpu: dict[int, float] = {}
        peak = 0.0
        while process.poll() is None:
            held = 0.0
            for one in tree(process.pid):
                try:
                    times = one.cpu_times()
                    cpu[one.pid] = times.user + times.system
                    held += one.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, held)
            time.sleep(SAMPLE_S)
    if process.returncode != 0:
        raise RuntimeError(f"{command} failed:\n{(folder / 'log').read_text(errors='replace')[-3000:]}")
    return Cost(time.perf_counter() - begun, sum(cpu.values()), peak / 1e6)


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all below it that are alive."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def commands(
    configs: list[dict[str, Any]], folder: Path, options: argparse.Namespace
) -> Iterator[tuple[str, list[str]]]:
    """Yield each way's name and command for `configs`."""
    (folder / "configs.json").write_text(json.dumps(configs), encoding="utf-8")
    choices = {name: {"choices": sorted({config[name] for config in configs})} for name in configs[0]}
    (folder / "space.toml").write_text(tomli_w.dumps({"parameters": choices, "enqueue": configs}), encoding="utf-8")
    size = str(options.image_size)
    yield (
        "hpo",
        [
            *(str(HPO), "run", "--backbone", "resnet18", "--weights", options.weights, "--head", "linear"),
            *("--dataset", f"imagefolder:{options.folder}", "--image-size", size, "--space", "space.toml"),
            *("--trials", str(len(configs)), "--no-asha", "--no-retrain", "--study", "bench"),
        ],
    )
    images = str(Path(options.folder) / "train")
    peer = ["configs.json", "--folder", images, "--weights", options.weights, "--image-size", size]
    yield "Ray Tune + OptunaSearch", [sys.executable, str(PEERS / "ray_optuna.py"), *peer]
    yield "the same, reuse_actors", [sys.executable, str(PEERS / "ray_optuna.py"), *peer, "--warm"]
    yield "one by one", [sys.executable, str(PEERS / "sequential.py"), *peer]


def write_digits(folder: Path) -> None:
    """Write scikit-learn's digits as JPEGs of 160x128 pixels, all of them to train on and a few again to test."""
    digits = load_digits()
    pairs = list(zip(digits.images, digits.target, strict=True))
    for split, number, (image, label) in [
        *(("train", number, pair) for number, pair in enumerate(pairs)),
        *(("test", number, pair) for number, pair in enumerate(pairs[:100])),
    ]:
        target = folder / split / str(label)
        target.mkdir(parents=True, exist_ok=True)
        scan = Image.fromarray((image * (255 / 16)).astype("uint8"))
        scan.resize((160, 128), Image.Resampling.BICUBIC).convert("RGB").save(target / f"{number:04d}.jpg", quality=95)


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="with train and test, of one folder a class each; default: digits")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, nargs=2, default=(5, 10))
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    results: dict[tuple[str, str], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        options.weights = str(root / "resnet18.pth")
        torch.manual_seed(0)
        torch.save(resnet18().state_dict(), options.weights)
        if options.folder is None:
            options.folder = str(root / "digits")
            write_digits(root / "digits")
        for repetition in range(options.repetitions):
            for half in ("backbone", "none"):
                folder = root / f"{half}-{repetition}"
                folder.mkdir()
                environment = {**psutil.Process().environ(), "HPO_DATA_DIR": str(folder / "data")}
                for way, command in commands(configurations(half, tuple(options.epochs)), folder, options):
                    cost = measure(command, folder, environment)
                    results.setdefault((half, way), []).append(cost)
                    sys.stderr.write(f"{repetition} {half} {way}: {cost}\n")
    sys.stdout.write(table(results))


def table(results: dict[tuple[str, str], list[Cost]]) -> str:
    """Return medians, and the medians of the ratios of each repetition to hpo's."""
    count = len(next(iter(results.values())))
    lines = [
        f"{platform.machine()}, {psutil.cpu_count()} CPU cores, {count} repetitions, medians",
        "",
        "| half | way | wall s | CPU s | peak MB | wall time by hpo's |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (half, way), costs in results.items():
        ratios = [cost.wall_s / own.wall_s for cost, own in zip(costs, results[half, "hpo"], strict=True)]
        shown = [statistics.median(getattr(cost, name) for cost in costs) for name in ("wall_s", "cpu_s", "peak_mb")]
        lines.append(
            f"| {half} | {way} | {shown[0]:.0f} | {shown[1]:.0f} | {shown[2]:.0f} | {statistics.median(ratios):.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
