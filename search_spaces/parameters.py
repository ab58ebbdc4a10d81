"""The table of parameters: which of them the search space of a trainable has, and what their values may be."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ParamValue = float | int | str
"""A bool is an int."""

FREEZE_MODES = ("none", "partial", "backbone")

RESERVED = frozenset(
    {
        *("number", "state", "epochs_trained", "best_epoch", "best_val_accuracy", "last_val_accuracy", "val_accuracy"),
        *("seconds", "seconds_trained", "host", "device", "memory_gb", "error"),
    }
)
"""Columns that stand beside the parameters in tables of trials."""

_ABOVE_0 = math.nextafter(0, 1)
_FAR = 1e6


@dataclass(frozen=True)
class Rule:
    """What the values of a parameter may be."""

    kind: Literal["number", "whole", "word", "switch", "any"]
    least: float = -math.inf
    most: float = math.inf
    words: tuple[str, ...] = ()

    @property
    def is_range(self) -> bool:
        """Whether it can be drawn from a range."""
        return self.kind in ("number", "whole", "any")

    @property
    def needed(self) -> str:
        """What a value must be, in words."""
        if self.kind == "word":
            return f"one of {', '.join(self.words)}"
        if self.kind == "switch":
            return "true or false"
        if self.kind == "any":
            return "a number, a text, true or false"
        noun = "a whole number" if self.kind == "whole" else "a number"
        low = " above 0" if self.least == _ABOVE_0 else f" from {self.least:g}" if self.least > -math.inf else ""
        # The greatest rate is far beyond any that works, and is not worth a word.
        return f"{noun}{low}{f' to {self.most:.12g}' if self.most < _FAR else ''}"

    @property
    def step(self) -> "Rule":
        """What the step of a range may be."""
        return Rule("whole", 1, self.most) if self.kind == "whole" else Rule("number", _ABOVE_0)

    @property
    def end(self) -> "Rule":
        """What the ends of a range may be."""
        return Rule("number") if self.kind == "any" else self

    def wrong(self, value: object) -> str | None:
        """Say what is wrong with a value; None where nothing is."""
        return None if self._fits(value) else f"{self.needed} is needed, but it is {value!r}."

    def stored(self, value: ParamValue) -> ParamValue:
        """Return a value as it is kept: numbers that need not be whole as floats."""
        return float(value) if self.kind == "number" else value

    def _fits(self, value: object) -> bool:
        if self.kind == "word":
            return isinstance(value, str) and value in self.words
        if self.kind == "switch" or isinstance(value, bool):
            return isinstance(value, bool) and self.kind in ("switch", "any")
        if isinstance(value, str):
            return self.kind == "any"
        if not isinstance(value, int if self.kind == "whole" else int | float):
            return False
        return self.least <= value <= self.most and abs(value) <= _LARGEST


_LARGEST = 1e300
"""What a float holds, for whole numbers too."""


@dataclass(frozen=True)
class Names:
    """The parameters that a trainable's search space has."""

    rules: Mapping[str, Rule]
    needed: tuple[str, ...]
    """Those that each space has; the order is that in which they are drawn, before all others."""
    is_open: bool = False
    """Whether it may have others, of any kind."""

    @property
    def allowed(self) -> str:
        """Their names, in words."""
        return f"{', '.join(self.rules)}{' and names of your own' if self.is_open else ''}"

    def rule(self, name: str) -> Rule:
        """Return the rule of a parameter that may be in the space."""
        return self.rules.get(name, _ANY)

    def wrong(self, name: object) -> bool:
        """Return whether no parameter can have this name."""
        if name in self.rules:
            return False
        return not (self.is_open and re.fullmatch(r"[A-Za-z_]\w*", str(name), re.ASCII) and name not in RESERVED)


def names_of(trainable: str) -> Names:
    """Return the parameters of a trainable, by its name; ``package.module:function`` has those that it likes."""
    return _KNOWN.get(trainable, Names(_FINETUNE, ("epochs",), is_open=True))


_ANY = Rule("any")
_POSITIVE = Rule("number", _ABOVE_0, _FAR)
_FINETUNE = {
    "learning_rate": _POSITIVE,
    "batch_size": Rule("whole", 1, 65_536),
    "epochs": Rule("whole", 1, 100_000),
    "freeze_mode": Rule("word", words=FREEZE_MODES),
}
_PRETRAIN = {
    "temperature": _POSITIVE,
    "learning_rate": _POSITIVE,
    "batch_size": Rule("whole", 2, 65_536),
    "strength": Rule("number", 0, 2),
    "min_crop": Rule("number", _ABOVE_0, 1),
    "epochs": _FINETUNE["epochs"],
    "flip": Rule("switch"),
    "blur": Rule("number", 0, 1),
    "warmup_epochs": Rule("number", 0, 100_000),
    "projection": Rule("whole", 1, 65_536),
    "optimizer": Rule("word", words=("lars", "adam")),
    "scaling": Rule("word", words=("linear", "sqrt")),
    "weight_decay": Rule("number", 0, _FAR),
}
"""Those of `hpo pretrain` that decide what is learned; what a space leaves out has the default that it has there."""
_PUBLISHED = {**_FINETUNE, "protocol": _ANY, "reads": _ANY}
_KNOWN = {
    "finetune": Names(_FINETUNE, tuple(_FINETUNE)),
    "published": Names(_PUBLISHED, tuple(_PUBLISHED)),
    "simclr-pretrain": Names(_PRETRAIN, ("epochs",)),
}
