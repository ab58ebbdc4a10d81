"""A user's own ``package.module:function``: found, and told from what it was when a study began."""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


def imported(spec: str) -> Any:
    """Return what ``package.module:function`` names, importable from the working directory, too.

    Raises:
        ImportError, AttributeError, ValueError: There is none, or the name is none.
        Exception: Whatever the module raises when it is imported.
    """
    module, _, function = spec.partition(":")
    # Last, so that no folder there stands in for a package.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    _check_module(module)
    return getattr(importlib.import_module(module), function)


def code_sha256(spec: str) -> str | None:
    """Return the digest of the file that an importable function is in; None: it is in none, as one of C."""
    name = spec.partition(":")[0]
    _check_module(name)
    module = importlib.util.find_spec(name)
    source = Path(module.origin) if module is not None and module.origin is not None else None
    return hashlib.sha256(source.read_bytes()).hexdigest() if source is not None and source.is_file() else None


def _check_module(module: str) -> None:
    if module == "__main__":
        raise ImportError("put it into a file of its own: the processes that train import it by its name")
