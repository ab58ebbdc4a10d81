"""Seeds: every random stream of a study is a named child of its seed."""

import zlib

import numpy as np


def stream(seed: int, *name: str | int) -> int:
    """Return the seed of a named stream, in [0, 2^32).

    It is a child of `seed` by NumPy's SeedSequence: the streams of the seeds 0 and 1 have nothing in common.

    Args:
        seed: The study's, at least 0.
        name: What it is for, such as ``("sampler", 12)``.
    """
    key = tuple(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in name)
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint32)[0])
