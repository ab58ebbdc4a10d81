"""Random streams: named children of a study's seed, which share nothing with its neighbours'."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from trainables.seeds import stream

NAMES = ("trial", "sampler", "retrain", "validation split", "labels", "test split")


@given(seed=st.integers(0, 2**63 - 1))
def test_a_stream_repeats_itself_and_fits_every_generator(seed: int) -> None:
    assert stream(seed, "trial", 3) == stream(seed, "trial", 3)
    assert 0 <= stream(seed, "trial", 3) < 2**32


def test_no_two_streams_are_the_same() -> None:
    streams = [stream(seed, name, number) for seed, name, number in itertools.product(range(10), NAMES, range(100))]

    assert len(set(streams)) == len(streams)
