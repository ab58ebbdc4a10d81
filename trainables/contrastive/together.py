"""A pretraining in several processes of this machine, one per card: this one and those that it starts."""

import ctypes
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from joblib import cpu_count

from trainables.contrastive.config import PretrainConfig, PretrainedEncoder, PretrainEpoch, PretrainMachine
from trainables.contrastive.pretraining import pretrain
from trainables.contrastive.processes import ALONE, can_share, joined
from trainables.errors import InputError

_PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when the one that started it ends."""
_LOOK_S = 0.05


class ProcessEnded(RuntimeError):  # noqa: N818 - what happened, not an error of this process
    """Another process of the pretraining has ended before its time; the message has its last words."""


def pretrain_together(
    config: PretrainConfig,
    machine: PretrainMachine,
    *,
    resume_from: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Generator[PretrainEpoch | PretrainedEncoder, None, None]:
    """Do what `pretrain` does, in as many processes as `machine` says; this is the first of them.

    Raises:
        InputError: As `pretrain` does, or there are fewer cards than processes.
        CheckpointError: As `pretrain` does.
        ProcessEnded: Another process has failed.
    """
    check_processes(machine.processes)
    if machine.processes == 1:
        yield from pretrain(config, machine, ALONE, resume_from=resume_from, save=save)
        return
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory(prefix="hpo-pretrain-") as name:
        folder = Path(name)
        others = [
            context.Process(target=_follow, args=(rank, config, machine, folder, resume_from), daemon=True)
            for rank in range(1, machine.processes)
        ]
        try:
            for one in others:
                one.start()
            _wait_until_ready(others, folder)
            with joined(0, machine.processes, folder / "meeting") as processes:
                yield from pretrain(config, machine, processes, resume_from=resume_from, save=save)
        except ProcessEnded:
            raise
        except RuntimeError as error:
            # What a collective operation raises where another process is gone.
            _raise_last_words(others, folder, error)
            raise
        finally:
            for one in others:
                one.kill()
                one.join()


def usual_processes(batch_size: int) -> int:
    """Return how many processes pretrain where nothing else is asked for: one on the CPU, else one per card.

    Where so many cannot share a batch, it is the most that can: cards are left idle.
    """
    return next((count for count in range(torch.cuda.device_count(), 1, -1) if can_share(batch_size, count)), 1)


def threads_of(processes: int) -> int:
    """Return the CPU threads that each of so many processes may use."""
    return max(1, int(cpu_count()) // processes)


def check_processes(processes: int) -> None:
    """See that each process has a card, where there are cards.

    Raises:
        InputError: It has none.
    """
    cards = torch.cuda.device_count()
    if cards and processes > cards:
        raise InputError(f"--processes {processes}: each needs a card of its own, and this machine has {cards}.")


def _follow(
    rank: int, config: PretrainConfig, machine: PretrainMachine, folder: Path, resume_from: bytes | None
) -> None:
    """What each of the other processes runs; the first one stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        _mark(rank, folder).touch()
        with joined(rank, machine.processes, folder / "meeting") as processes:
            for _ in pretrain(config, machine, processes, resume_from=resume_from):
                pass
    except BaseException as error:
        _words(rank, folder).write_text(traceback.format_exc(), encoding="utf-8")
        # The first process says it in a line; multiprocessing would print the traceback.
        raise SystemExit(1) from error


def _wait_until_ready(others: Sequence[BaseProcess], folder: Path) -> None:
    """Wait until the others can be joined: one that ends before would be waited for in vain."""
    while not all(_mark(rank, folder).exists() for rank in range(1, len(others) + 1)):
        if any(one.exitcode is not None for one in others):
            _raise_last_words(others, folder, None)
        time.sleep(_LOOK_S)


def _raise_last_words(others: Sequence[BaseProcess], folder: Path, cause: Exception | None) -> None:
    for rank, one in enumerate(others, 1):
        one.join(1.0)
        if one.exitcode:
            words = _words(rank, folder)
            said = words.read_text(encoding="utf-8").strip().splitlines()[-1] if words.exists() else ""
            ended = f"process {rank + 1} of {len(others) + 1} ended with code {one.exitcode}"
            raise ProcessEnded(f"{ended}{f': {said}' if said else ''}") from cause


def _mark(rank: int, folder: Path) -> Path:
    return folder / f"{rank}.ready"


def _words(rank: int, folder: Path) -> Path:
    return folder / f"{rank}.txt"
