"""How a published experiment trained and judged, as switches: with none of them it is the sound way."""

import dataclasses
from dataclasses import dataclass
from typing import Self

from trainables.errors import InputError

SOUND = "sound"
"""The text of a protocol without a deviation."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Deviations from the sound way, of Jimenez & Hale (2023) and of many others; each can be set alone.

    The head is no part of it, since it is a setting of any network (`trainables.config.ModelConfig.head`).
    """

    frozen_random_layer: bool = False
    """Whether transfer learning freezes the head's layer of 1,000 outputs also where the weights do not set it."""
    training_mode: bool = False
    """Whether the network is never put into eval mode: batch norm and dropout of frozen parts, of validation and of
    test work as they do in training. Features of frozen parts are then no function of an image, and are not stored;
    what an image is taken for depends on the others of its batch, which `trainables.training.epoch.predict` draws."""
    unseeded_split: bool = False
    """Whether each run cuts validation from the training images at random, not by class, by a seed of its own."""
    last_epoch: bool = False
    """Whether held-out test is judged with the weights of the epoch itself; if not, with those of the epoch that was
    best on validation until then."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the protocol that `str` of it names.

        Raises:
            InputError: There is no such switch.
        """
        names = [] if text == SOUND else text.split()
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(names) - set(known)):
            raise InputError(
                f"protocol: no switches are {', '.join(unknown)}; there are {', '.join(known)}, or {SOUND}."
            )
        return cls(**dict.fromkeys(names, True))

    def __str__(self) -> str:
        """Return the switches that are set, as a parameter of a study keeps them."""
        names = [field.name for field in dataclasses.fields(self) if getattr(self, field.name)]
        return " ".join(names) or SOUND


def parse_reads(text: str) -> tuple[int, ...]:
    """Return the epochs after which test is read, from a text such as ``10 20 50``.

    Raises:
        InputError: It is none.
    """
    if not all(part.isdecimal() for part in text.split()):
        raise InputError(f"reads: epochs such as 10 20 50 are needed, but it is {text!r}.")
    return tuple(map(int, text.split()))


def reads_text(epochs: tuple[int, ...]) -> str:
    """Return the text that `parse_reads` reads."""
    return " ".join(map(str, epochs))
