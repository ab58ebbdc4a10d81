"""Fixtures of the tests on a card."""

import gc
from collections.abc import Iterator

import pytest
import torch

from trainables.training.device import release_memory


@pytest.fixture(autouse=True)
def empty_card() -> Iterator[None]:
    """Give each test the card without what the one before left in caches, and with all of its memory."""
    yield
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(1.0)
    release_memory()
