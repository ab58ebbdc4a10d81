"""What each switch of a protocol costs by itself: the same configuration, under protocols that differ in one switch."""

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.paper.experiment import SOUND, Point, Protocol
from hpo.paper.measured import Cell, by_protocol, right
from hpo.paper.paired import Estimate, PairedDifference, accuracy, difference


@dataclass(frozen=True)
class Flip:
    """A protocol beside the one that an ablation starts from."""

    protocol: Protocol
    switches: tuple[str, ...]
    """Those in which they differ: one, or several at once."""
    accuracy: Estimate
    gain: PairedDifference
    """Its accuracy minus that of the base, on the same images, by the seeds that both have."""


@dataclass(frozen=True)
class Ablation:
    """A configuration under several protocols."""

    point: Point
    base: Protocol
    accuracy: Estimate
    flips: tuple[Flip, ...]
    """Those of one switch first."""


def ablations(cells: Sequence[Cell]) -> list[Ablation]:
    """Return the configurations that were measured under protocols which differ in one switch.

    The base of each is the protocol from which most others are one switch away; of several, the one that differs most
    from the sound one.
    """
    protocols = by_protocol(cells)
    found = []
    for point in dict.fromkeys(cell.point for cell in cells):
        measured = {protocol: cells_of[point] for protocol, cells_of in protocols.items() if point in cells_of}
        neighbours = {one: sum(len(one.differs_in(other)) == 1 for other in measured) for one in measured}
        base = max(measured, key=lambda one: (neighbours[one], len(SOUND.differs_in(one))))
        flips = [
            flip
            for protocol in measured
            if protocol != base and (flip := _flip(protocol, base, measured[protocol], measured[base])) is not None
        ]
        if neighbours[base] and flips:
            order = [*Protocol.model_fields]
            flips.sort(key=lambda one: (len(one.switches), [order.index(name) for name in one.switches]))
            found.append(Ablation(point, base, accuracy(right(measured[base])), tuple(flips)))
    return found


def _flip(protocol: Protocol, base: Protocol, cells: Sequence[Cell], base_cells: Sequence[Cell]) -> Flip | None:
    seeds = {one.seed for one in cells} & {one.seed for one in base_cells}
    own, others = ([one for one in some if one.seed in seeds] for some in (cells, base_cells))
    if not own or own[0].labels.tobytes() != others[0].labels.tobytes():
        return None
    gain = difference(right(own), right(others))
    return Flip(protocol, protocol.differs_in(base), accuracy(right(cells)), gain)
