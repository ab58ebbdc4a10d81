"""Which of the state dicts that a checkpoint holds is meant."""

import itertools
from collections.abc import Mapping

from trainables.checkpoints.layouts import Layout, recognise
from trainables.checkpoints.torch_records import (
    SHOWN,
    WeightsFileError,
    described,
    entries,
    is_tensor,
    shown,
    stored_tensor,
)

StoredDict = Mapping[str, object]
"""Names with tensors that are not read yet."""
Keys = tuple[str, ...]
"""The keys on the way to a state dict; none: the file is one."""

_DEEPEST, _MOST_ENTRIES = 8, 300_000
"""Bounds for what a hostile file can nest: VISSL's lie four deep."""
_BEFORE = (("state_dict", "model"), ("state_dict",), ("model",))
"""What was taken of several where none was named, by the studies of hpo 0.2.0 and before."""


def find(content: object) -> dict[Keys, StoredDict]:
    """Return each state dict (names with tensors and nothing else) of a checkpoint's content, once.

    Raises:
        WeightsFileError: It nests more than any checkpoint does.
    """
    found: dict[Keys, StoredDict] = {}
    todo: list[tuple[Keys, object]] = [((), content)]
    seen, left = set[int](), _MOST_ENTRIES
    while todo:
        keys, one = todo.pop()
        if id(one) in seen or len(keys) > _DEEPEST:
            continue
        seen.add(id(one))
        inner = entries(one)
        if not inner:
            continue
        left -= len(inner)
        if left < 0:
            raise WeightsFileError("the file nests more than a checkpoint does")
        if all(is_tensor(value) for value in inner.values()):
            found[keys] = inner
        else:
            todo += [((*keys, key), value) for key, value in reversed(inner.items())]
    return found


def choose(content: object, key: str | None, *, settled: bool) -> tuple[StoredDict, Layout | None]:
    """Return the state dict that is meant, and its layout: the one under `key`, the only one, or the only ResNet's.

    Args:
        content: A checkpoint's.
        key: The keys on the way to it, joined by dots; None: none were named.
        settled: Whether a study that exists wants it: of several it then gets the one that it got before.

    Raises:
        WeightsFileError: There is none, or several are; the message lists them.
    """
    found = find(content)
    if not found:
        raise WeightsFileError(f"the file holds no state dict (names with tensors); it holds {described(content)}")
    layouts = {keys: recognise(state) for keys, state in found.items()}
    meant = _meant(found, layouts, key, settled=settled)
    _check_first_layers(content, found[meant], layouts[meant])
    return found[meant], layouts[meant]


def _meant(
    found: Mapping[Keys, StoredDict], layouts: Mapping[Keys, Layout | None], key: str | None, *, settled: bool
) -> Keys:
    if key is not None:
        named = next((keys for keys in found if ".".join(keys) == key), None)
        if named is None:
            raise WeightsFileError(f"the file holds no state dict under {shown(key)}; it holds {_listed(found)}")
        return named
    resnets = [keys for keys in found if layouts[keys] is not None]
    for only in (list(found), resnets):
        if len(only) == 1:
            return only[0]
    before = next((keys for keys in _BEFORE if keys in found), None)
    if settled and before is not None:
        return before
    example = shown(".".join((resnets or list(found))[0]))
    raise WeightsFileError(
        f"the file holds several state dicts: {_listed(found)}; name one, as in --weights 'FILE#{example}'"
    )


def _listed(found: Mapping[Keys, StoredDict]) -> str:
    first = itertools.islice(found.items(), SHOWN)
    said = [f"{shown('.'.join(keys)) or 'itself'} ({len(state)} tensors)" for keys, state in first]
    return f"{', '.join(said)}{', ...' if len(found) > SHOWN else ''}"


def _check_first_layers(content: object, state: StoredDict, layout: Layout | None) -> None:
    """See that a ResNet has the first layers of torchvision's or of `trainables.networks.small_stem`'s.

    Neither names nor shapes tell its max-pooling and the padding of its first convolution.

    Raises:
        WeightsFileError: It has others, as Lightning's hyper-parameters or the publisher's code say.
    """
    parameters = entries((entries(content) or {}).get("hyper_parameters")) or {}
    stem, pools = (parameters.get(name, True) is not False for name in ("first_conv", "maxpool1"))
    if layout is not None and stem != pools:
        lack = "without max-pooling" if stem else "with max-pooling behind a stem for small images"
        raise WeightsFileError(
            f"the file holds a ResNet {lack} (hyper_parameters: first_conv, maxpool1), as lightning-bolts can train"
            " them; torchvision's have a 7x7 convolution and max-pooling, small:NAME neither"
        )
    if layout is not None and layout.name == "solo-learn":
        name = f"{layout.encoder}conv1.weight"
        first = stored_tensor(next((value for key, value in state.items() if key.endswith(name)), None))
        if first is not None and first.size[2:] == (3, 3):
            raise WeightsFileError(
                "the file holds a ResNet as solo-learn trains it on CIFAR, whose first convolution pads by 2; that of"
                " small:NAME by 1"
            )
