"""Class indices of many images as a short text, for a ledger to keep."""

import base64
import zlib

import numpy as np

TEST_PREDICTIONS = "test_predictions"
"""What an epoch's `extra` calls the class of each held-out test image; each such entry is a look at test."""


def pack(indices: np.ndarray) -> str:
    """Return (N,) class indices, in [0, 65535], as text: about one byte per image."""
    return base64.b85encode(zlib.compress(indices.astype("<u2").tobytes())).decode()


def unpack(text: str) -> np.ndarray:
    """Return the (N,) int64 class indices that `pack` was given.

    Raises:
        ValueError: The text is no result of `pack`.
    """
    try:
        return np.frombuffer(zlib.decompress(base64.b85decode(text)), "<u2").astype(np.int64)
    except zlib.error as error:
        raise ValueError(str(error)) from error
