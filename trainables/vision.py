"""torchvision, without torch's compiler: half of what it takes to import is that, for one function nobody calls here.

torchvision 0.29's `ops.roi_align`, an operation of detectors, imports `torch._dynamo.utils` for a single function, and
with it the compiler, sympy and torch.distributed: 2.8 of 6.2 s of CPU time on a slow machine. Every process of a study
would pay that. Whoever compiles a network imports them as ever.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo.utils"


class _StandIn(ModuleType):
    """Has the one function, which asks the real module when it is called; for anything else it is that module."""

    @staticmethod
    def is_compile_supported(device: str) -> Any:
        return importlib.import_module(_COMPILER).is_compile_supported(device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        return getattr(importlib.import_module(_COMPILER), name)


@contextmanager
def _without_compiler() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = _StandIn(_COMPILER)
    sys.modules[_COMPILER] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


with _without_compiler():
    from torchvision import datasets, models
    from torchvision.models.vision_transformer import interpolate_embeddings
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

__all__ = ["InterpolationMode", "datasets", "interpolate_embeddings", "models", "transforms"]
