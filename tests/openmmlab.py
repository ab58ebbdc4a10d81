"""A checkpoint as OpenMMLab's training engine writes it, with objects of its own, and a server that publishes it."""

import contextlib
import functools
import hashlib
import http.server
import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BUFFER = "mmengine.logging.history_buffer"


def save(encoder: Mapping[str, Tensor], path: Path) -> str:
    """Write `encoder` as mmengine/runner/runner.py does (`save_checkpoint`), and return the file's SHA-256."""
    buffer = type("HistoryBuffer", (), {"__module__": _BUFFER})
    scalars = OrderedDict[str, Any]()
    for name in ("train/lr", "train/loss"):
        scalars[name] = buffer()
        scalars[name].max_length = 1_000_000
        scalars[name]._log_history, scalars[name]._count_history = np.linspace(6, 5, 100), np.ones(100, dtype=int)
    state = {f"backbone.{key}": value for key, value in encoder.items()}
    state |= {"neck.fc0.weight": torch.zeros(8, 4), "neck.bn0.running_mean": torch.zeros(8)}
    content = {
        "meta": {"epoch": 800, "iter": 1_000_800, "cfg": "model = dict(type='SimCLR')", "hook_msgs": {}},
        "state_dict": OrderedDict(state),
        "message_hub": {
            "log_scalars": scalars,
            "runtime_info": OrderedDict(iter=1_000_800, loop_stage="train", best=np.float64(6.1)),
            "resumed_keys": OrderedDict.fromkeys(scalars, True),
        },
    }
    packages = ("mmengine", "mmengine.logging", _BUFFER)
    sys.modules |= {name: types.ModuleType(name) for name in packages}
    vars(sys.modules[_BUFFER])["HistoryBuffer"] = buffer
    try:
        torch.save(content, path)
    finally:
        for name in packages:
            del sys.modules[name]
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP; yield the address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
