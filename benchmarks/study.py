"""A study of 16 fixed configurations by hpo, by the usual Ray Tune script, and one by one: time, memory, ratios.

``python -m benchmarks.study [--folder IMAGEFOLDER]``: without a folder, scikit-learn's digits are written as JPEGs of a
photograph's size and noise. Every run starts without decoded images, features or warm processes. The network is
SqueezeNet at 96 pixels: on CPU cores its arithmetic is to the decoding of a photograph about as a ResNet-50's at 224
pixels is on a desktop's GPU.
"""

import argparse
import dataclasses
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

import matplotlib.pyplot as plt
import numpy as np
import psutil
import tomli_w
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.models import squeezenet1_1

PEERS = Path(__file__).parent / "peers"
HPO = Path(sys.executable).with_name("hpo")
USED = (
    "import hpo.studies.new, hpo.studies.lifecycle, ray;"
    " ray.init(address='local', include_dashboard=False, log_to_driver=False)"
)
"""Reads Python's packages and Ray's programs from disk before a way is timed: the system may have dropped them from its
cache since the run before, and those seconds would weigh most in the shortest run."""
SAMPLE_S = 0.5
EPOCHS = {"backbone": (6, 12), "none": (2, 6)}
"""Two lengths of trial by freeze mode, so that the usual way needs five minutes for each half on two cores."""
HALVES = {"backbone": "frozen half", "none": "fine-tuned half", "whole": "whole"}
NOISE = 16
"""Deviation of the noise on the scans, of 255: without it a JPEG of a digit is decoded faster than a photograph."""


@dataclass(frozen=True)
class Cost:
    """What a run took."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    """Most memory that its processes held together, each shared page divided among those that share it (PSS)."""
    images: int
    """Images that were trained on or evaluated, in all epochs of all trials."""


Results = dict[tuple[str, str], list[Cost]]
"""What each way of each half took, one cost per repetition."""


def configurations(freeze_mode: str, epochs: tuple[int, int]) -> list[dict[str, Any]]:
    """Return eight: two learning rates, two batch sizes, two lengths."""
    return [
        {"learning_rate": rate, "batch_size": size, "epochs": length, "freeze_mode": freeze_mode}
        for rate in (1e-4, 1e-3)
        for size in (32, 64)
        for length in epochs
    ]


def measure(command: list[str], folder: Path, environment: dict[str, str], images: int) -> Cost:
    """Run `command`, which goes through `images` images, to its end and watch its processes.

    Raises:
        RuntimeError: It failed.
        subprocess.CalledProcessError: Ray or hpo cannot be used here at all.
    """
    subprocess.run([sys.executable, "-c", USED], env=environment, check=True, capture_output=True)
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
    return Cost(time.perf_counter() - begun, sum(cpu.values()), peak / 1e6, images)


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
    write_space(configs, folder / "space.toml")
    size = str(options.image_size)
    yield (
        "hpo",
        [
            *(
                str(HPO),
                "run",
                "--backbone",
                "torchvision:squeezenet1_1",
                "--weights",
                options.weights,
                "--head",
                "linear",
            ),
            *("--dataset", f"imagefolder:{options.folder}", "--image-size", size, "--space", "space.toml"),
            *("--trials", str(len(configs)), "--no-asha", "--no-retrain", "--study", "bench"),
        ],
    )
    images = str(Path(options.folder) / "train")
    peer = ["configs.json", "--folder", images, "--weights", options.weights, "--image-size", size]
    yield "Ray Tune + OptunaSearch", [sys.executable, str(PEERS / "ray_optuna.py"), *peer]
    yield "the same, reuse_actors", [sys.executable, str(PEERS / "ray_optuna.py"), *peer, "--warm"]
    yield "one by one", [sys.executable, str(PEERS / "sequential.py"), *peer]


def write_space(configs: list[dict[str, Any]], path: Path) -> None:
    """Write the search space that tries `configs`, one after another."""
    choices = {name: {"choices": sorted({config[name] for config in configs})} for name in configs[0]}
    path.write_text(tomli_w.dumps({"parameters": choices, "enqueue": configs}), encoding="utf-8")


def write_digits(folder: Path) -> None:
    """Write scikit-learn's digits as JPEGs of 500x375 pixels, all of them to train on and a few again to test."""
    digits = load_digits()
    generator = np.random.default_rng(0)
    pairs = list(zip(digits.images, digits.target, strict=True))
    for split, number, (image, label) in [
        *(("train", number, pair) for number, pair in enumerate(pairs)),
        *(("test", number, pair) for number, pair in enumerate(pairs[:100])),
    ]:
        target = folder / split / str(label)
        target.mkdir(parents=True, exist_ok=True)
        scan = Image.fromarray((image * (255 / 16)).astype("uint8"))
        pixels = np.asarray(scan.resize((500, 375), Image.Resampling.BICUBIC).convert("RGB"))
        noisy = pixels + generator.normal(0, NOISE, pixels.shape)
        Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(target / f"{number:04d}.jpg", quality=90)


def write_weights(folder: Path) -> str:
    """Write a SqueezeNet's weights, random ones, for they decide no time, and return their path."""
    torch.manual_seed(0)
    torch.save(squeezenet1_1().state_dict(), folder / "squeezenet.pth")
    return str(folder / "squeezenet.pth")


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="with train and test, each with one folder per class; default: digits")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--results", type=Path, help="a JSON file; repetitions are added to those that it holds")
    parser.add_argument("--figure", type=Path, help="a picture of the table")
    options = parser.parse_args()
    results = read(options.results)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        options.weights = write_weights(root)
        if options.folder is None:
            options.folder = str(root / "digits")
            write_digits(root / "digits")
        for repetition in range(options.repetitions):
            for half, epochs in EPOCHS.items():
                folder = root / f"{half}-{repetition}"
                folder.mkdir()
                environment = {**psutil.Process().environ(), "HPO_DATA_DIR": str(folder / "data")}
                configs = configurations(half, epochs)
                images = sum(config["epochs"] for config in configs) * len(list(Path(options.folder).glob("train/*/*")))
                for way, command in commands(configs, folder, options):
                    cost = measure(command, folder, environment, images)
                    results.setdefault((half, way), []).append(cost)
                    sys.stderr.write(f"{repetition} {half} {way}: {cost}\n")
            if options.results:
                options.results.write_text(json.dumps(as_rows(results), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(results))
    if options.figure:
        draw(results, options.figure)


def as_rows(results: Results) -> list[dict[str, Any]]:
    """Return one row per run."""
    return [
        {"half": half, "way": way, **dataclasses.asdict(cost)}
        for (half, way), costs in results.items()
        for cost in costs
    ]


def read(path: Path | None) -> Results:
    """Return what `as_rows` of earlier repetitions holds; nothing where there is no such file."""
    results: Results = {}
    rows = json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else []
    for row in rows:
        results.setdefault((row.pop("half"), row.pop("way")), []).append(Cost(**row))
    return results


def with_whole(results: Results) -> Results:
    """Return the results with both halves together added."""
    ways = dict.fromkeys(way for _, way in results)
    halves = {way: zip(*(results[half, way] for half in EPOCHS), strict=True) for way in ways}
    return results | {("whole", way): [total(pair) for pair in pairs] for way, pairs in halves.items()}


def ratios(results: Results, half: str, way: str) -> list[float]:
    """Return the wall times of a way by hpo's, one of each repetition."""
    return [cost.wall_s / own.wall_s for cost, own in zip(results[half, way], results[half, "hpo"], strict=True)]


def draw(results: Results, path: Path) -> None:
    """Draw the wall times' ratios to hpo's."""
    rows = with_whole(results)
    ways = [way for half, way in rows if half == "whole" and way != "hpo"]
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for place, way in enumerate(ways):
        heights = [statistics.median(ratios(rows, half, way)) for half in HALVES]
        bars = axes.bar([x + (place - 1) * 0.27 for x in range(len(HALVES))], heights, 0.25, label=way)
        axes.bar_label(bars, fmt="%.1f")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xticks(range(len(HALVES)), list(HALVES.values()))
    axes.set_ylabel("wall time by hpo's")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def table(results: Results) -> str:
    """Return medians, and the medians of the ratios of each repetition to hpo's; both halves together come last."""
    rows = with_whole(results)
    lines = [
        f"{platform.machine()}, {psutil.cpu_count()} CPU cores, {len(rows['whole', 'hpo'])} repetitions, medians",
        "",
        "| half | way | wall s | CPU s | images/s | peak MB | wall time by hpo's |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for half, name in HALVES.items():
        for way in dict.fromkeys(way for _, way in rows):
            costs = rows[half, way]
            wall, cpu, peak = (
                statistics.median(getattr(cost, name) for cost in costs) for name in ("wall_s", "cpu_s", "peak_mb")
            )
            figures = (wall, cpu, costs[0].images / wall, peak)
            cells = [*(f"{figure:.0f}" for figure in figures), f"{statistics.median(ratios(rows, half, way)):.1f}"]
            lines.append(f"| {name} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def total(costs: tuple[Cost, ...]) -> Cost:
    """Return what several runs, one after another, took."""
    return Cost(
        wall_s=sum(cost.wall_s for cost in costs),
        cpu_s=sum(cost.cpu_s for cost in costs),
        peak_mb=max(cost.peak_mb for cost in costs),
        images=sum(cost.images for cost in costs),
    )


if __name__ == "__main__":
    main()
