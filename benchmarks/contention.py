"""Training steps per second, alone and beside other programs, by how OpenMP's threads wait and by niceness.

``python -m benchmarks.contention [--repeats 15] [WAITING ...]``: ResNet-18 at 32 px from random weights, batches of 64,
as many threads as this process has CPUs, alone and then beside as many busy loops of ordinary priority. Each
measurement is a process of its own, with its environment and niceness set before torch is imported; the loops begin
when it has warmed up; measurements that other programs disturb are repeated. hpo's settings for processes that train
come from this benchmark.
For a CPU only, on Linux.
"""

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil

BATCH, IMAGE_SIZE, CLASSES = 64, 32, 10
WARM_UP = 8
"""Steps that are not counted."""
SETTLING_S = 0.5
DISTURBED = 0.1
"""CPUs' worth of other programs beside which nothing is measured."""
WAITINGS = (
    "default",
    "OMP_WAIT_POLICY=PASSIVE",
    *(f"GOMP_SPINCOUNT={count}" for count in (0, 300, 1000, 3000, 10_000, 30_000, 100_000)),
)
"""Libgomp's own: it spins 300,000 times, and OMP_WAIT_POLICY=PASSIVE means not at all."""
NICENESSES = (0, 5, 10, 15)
"""The last is Ray's own for its workers."""
THEIRS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "KMP_BLOCKTIME")


class Setting(NamedTuple):
    """What a process that trains is given."""

    waiting: str
    """``VARIABLE=VALUE`` or ``default``."""
    niceness: int


class Window(NamedTuple):
    """When something was measured, by the monotonic clock."""

    begun: float
    ended: float


def train_without_end() -> None:
    """Take training steps and write the time of each one's end; this is what each measured process does."""
    import numpy as np
    import torch

    from trainables.config import DataConfig, MachineConfig, ModelConfig, TrialConfig
    from trainables.training.epoch import Examples, new_learner, train_epoch

    config = TrialConfig(
        data=DataConfig(dataset="digits"),
        model=ModelConfig(backbone="resnet18", weights="none", image_size=IMAGE_SIZE),
        learning_rate=1e-4,
        batch_size=BATCH,
        epochs=1,
        machine=MachineConfig(threads=cpus()),
    )
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (BATCH, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    examples = Examples(pixels, torch.from_numpy(generator.integers(0, CLASSES, BATCH)))
    learner = new_learner(config, CLASSES)
    while True:
        train_epoch(learner, examples, np.arange(BATCH), 1)
        sys.stdout.write(f"{time.monotonic()}\n")
        sys.stdout.flush()


class Training:
    """A process that trains with `setting`, or stands still."""

    def __init__(self, setting: Setting) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in THEIRS}
        if setting.waiting != "default":
            name, _, value = setting.waiting.partition("=")
            environment[name] = value
        # `nice` becomes the training itself.
        command = ["nice", "-n", str(setting.niceness), sys.executable, "-m", "benchmarks.contention", "--train"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self._windows: list[Window] = []

    def warm_up(self) -> None:
        """Let it take its first steps, then stand still."""
        if self.process.stdout is None or not [self.process.stdout.readline() for _ in range(WARM_UP)][-1]:
            raise RuntimeError("the training ended")
        self.process.send_signal(signal.SIGSTOP)

    def measure(self, seconds: float) -> None:
        """Let it train alone, then beside busy loops."""
        self.process.send_signal(signal.SIGCONT)
        self._windows.append(undisturbed([self.process], seconds))
        with busy_loops(cpus()) as loops:
            self._windows.append(undisturbed([self.process, *loops], seconds))
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> tuple[list[float], list[float]]:
        """End it, and return the steps per second, alone and beside busy loops, of each repetition."""
        self.process.kill()
        stamps = [float(line) for line in self.process.communicate()[0].splitlines(keepends=True) if line[-1] == "\n"]
        rates = [rate(stamps, window) for window in self._windows]
        return rates[::2], rates[1::2]


def undisturbed(ours: list[subprocess.Popen[Any]], seconds: float) -> Window:
    """Wait `seconds` in which next to nothing but `ours` keeps a CPU busy, and return when that was."""

    def others() -> float:
        everywhere = psutil.cpu_times()
        busy = everywhere.user + everywhere.nice + everywhere.system
        return float(busy - sum(sum(psutil.Process(one.pid).cpu_times()[:2]) for one in ours))

    time.sleep(SETTLING_S)
    while True:
        begun, before = time.monotonic(), others()
        time.sleep(seconds)
        ended, disturbed = time.monotonic(), (others() - before) / seconds
        if disturbed < DISTURBED:
            return Window(begun, ended)
        sys.stderr.write(f"again: other programs kept {disturbed:.2f} CPUs busy\n")


def rate(stamps: list[float], window: Window) -> float:
    """Return the steps per second in a window: between the steps' ends, where there are enough of them."""
    inside = [stamp for stamp in stamps if window.begun <= stamp <= window.ended]
    if len(inside) > 2:
        return (len(inside) - 1) / (inside[-1] - inside[0])
    return len(inside) / (window.ended - window.begun)


@contextmanager
def busy_loops(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep `number` CPUs busy, and yield the processes that do."""
    loops = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield loops
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def cell(values: list[float], of: list[float]) -> str:
    """Return the median with the least and the greatest, and the same of the ratios within each repetition."""
    ratios = [value / unit for value, unit in zip(values, of, strict=False) if unit]
    middle, share = statistics.median(values), statistics.median(ratios)
    return (
        f"{middle:.2f} ({min(values):.2f} to {max(values):.2f}) | {share:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("waitings", nargs="*", default=WAITINGS, metavar="WAITING")
    parser.add_argument("--niceness", type=int, nargs="+", default=NICENESSES, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each rate (default: %(default)s)")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train_without_end()
    reference = Setting("default", 0)
    settings = dict.fromkeys(
        [reference, *(Setting(waiting, niceness) for niceness in options.niceness for waiting in options.waitings)]
    )
    trainings: dict[Setting, Training] = {}
    try:
        for setting in settings:
            trainings[setting] = Training(setting)
            trainings[setting].warm_up()
        for repetition in range(options.repeats):
            for setting, training in trainings.items():
                training.measure(options.seconds)
                sys.stderr.write(f"{repetition + 1} of {options.repeats}: {setting}\n")
    except KeyboardInterrupt:
        sys.stderr.write("stopped; these are the repetitions so far\n")
    finally:
        rates = {setting: training.end() for setting, training in trainings.items()}
    unit = rates[reference][0]
    sys.stdout.write(
        f"{platform.machine()}, {cpus()} CPUs, Linux {platform.release()}, {len(unit)} repetitions,"
        " medians (least to greatest);\nratios to the default's rate alone at niceness 0 in the same repetition\n\n"
        "| niceness | waiting | alone, steps/s | of default | beside loops, steps/s | of default |\n"
        "|---:|---|---:|---:|---:|---:|\n"
    )
    for setting, (alone, beside) in rates.items():
        if not beside:
            continue
        sys.stdout.write(f"| {setting.niceness} | {setting.waiting} | {cell(alone, unit)} | {cell(beside, unit)} |\n")


if __name__ == "__main__":
    main()
