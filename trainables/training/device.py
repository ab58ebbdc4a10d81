"""Where a trial computes: the device, the precision and the threads of this process."""

import ctypes
import os
import platform
from dataclasses import dataclass

import torch
from torch import nn

from trainables.config import Precision
from trainables.errors import InputError

_LIBC = ctypes.CDLL(None)
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _NEVER = -1, -4, -1
"""Constants of malloc.h, and the threshold that mallopt(3) gives for no trimming at all."""
_TURING = (7, 5)
_AMPERE = (8, 0)
_NO_MEMORY = (
    *("OutOfMemoryError", "DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"),
    # cuDNN's word where no workspace is left for any of its algorithms (pytorch#108645).
    "unable to find an engine to execute this computation",
)
"""What torch says in a plain RuntimeError of this machine's memory, or where CUDA, cuBLAS or cuDNN finds none; and what
another process says of torch's own error."""


@dataclass(frozen=True)
class Compute:
    """The device that a trial runs on and how it counts there."""

    device: torch.device
    autocast: torch.dtype | None
    """Type of autocast's fast operations; None: all in float32 (from Ampere on TF32 in convolutions, as torch does)."""
    name: str
    """What a person calls the device, such as ``NVIDIA GeForce RTX 3060`` or ``cpu (x86_64)``."""


def choose(precision: Precision, threads: int, model: nn.Module) -> Compute:
    """Choose the device and the precision for `model` in this process, and make its arithmetic repeatable.

    ``auto`` is bfloat16 on GPUs from Ampere on and on CPUs with instructions for it, float16 (with a gradient scaler)
    on Turing, float32 elsewhere; `benchmarks/precision.py` measures what that is worth. A CPU computes networks with
    depthwise convolutions in float32: EfficientNet-B0 and MobileNetV3 train at 0.5 to 0.7 times the speed in bfloat16.
    The GPU's branch has been reviewed but not run: no machine with one was at hand.

    Args:
        precision: One of ``auto``, ``fp32``, ``fp16``, ``bf16``.
        threads: CPU threads that torch may use in this process, at least 1.
        model: The network, with its parameters anywhere.

    Raises:
        InputError: ``fp16`` was asked for without a GPU.
    """
    check_precision(precision)
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    if not torch.cuda.is_available():
        bfloat16 = precision == "bf16" or (precision == "auto" and _cpu_has_bfloat16() and not _has_depthwise(model))
        autocast = torch.bfloat16 if bfloat16 else None
        _keep_freed_memory()
        return Compute(torch.device("cpu"), autocast, f"cpu ({platform.machine()})")
    device = torch.device("cuda", torch.cuda.current_device())
    return Compute(device, _gpu_autocast(precision, device), torch.cuda.get_device_name(device))


def check_precision(precision: Precision) -> None:
    """See that this machine can compute in `precision`.

    Raises:
        InputError: ``fp16`` was asked for without a GPU.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise InputError("--precision fp16 needs a GPU, and this machine has none; use auto, fp32 or bf16.")


def step_back(nice: int) -> None:
    """Let other programs go before this process, from now on: its niceness becomes at least `nice`."""
    if os.getpriority(os.PRIO_PROCESS, 0) < nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)


def release_memory() -> None:
    """Give the memory that the last trial left in caches back to the machine, and measure a GPU's anew."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def peak_memory_gb() -> float | None:
    """Return the most GPU memory that torch kept for tensors here since `release_memory`, in GiB; None: no GPU."""
    return torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that a device, or this machine, has no memory left for a tensor."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def _keep_freed_memory() -> None:
    """Let this process keep what one training step frees for the next.

    glibc gives large blocks back to the system, which clears their pages again at the next use: SqueezeNet at 96 px
    took 190,000 page faults per epoch of 768 images, and 3.4 s instead of 3.0 s.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_MMAP_MAX, 0)
        _LIBC.mallopt(_M_TRIM_THRESHOLD, _NEVER)


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself: with AVX512-BF16 or AMX."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _has_depthwise(model: nn.Module) -> bool:
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(convolution.groups == convolution.in_channels > 1 for convolution in convolutions)


def _gpu_autocast(precision: Precision, device: torch.device) -> torch.dtype | None:
    capability = torch.cuda.get_device_capability(device)
    if precision == "bf16" or (precision == "auto" and capability >= _AMPERE):
        return torch.bfloat16
    if precision == "fp16" or (precision == "auto" and capability >= _TURING):
        return torch.float16
    return None
