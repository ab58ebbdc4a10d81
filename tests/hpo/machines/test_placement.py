"""How trials share a cluster: what each asks for, when the next is drawn, and what fits nowhere."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.errors import UsageError
from hpo.machines.placement import (
    CONTEXT_GB,
    MARGIN,
    Node,
    Share,
    as_node,
    can_hold,
    correction,
    gigabytes,
    place,
    registered,
)
from hpo.spec import RunOptions
from trainables.config import MemoryNeed

DESKTOPS = [Node(12, 1, 12, "10.0.0.1"), Node(16, 1, 8, "10.0.0.2")]
GIB = 2**30


def need(fixed: float, per_image: float, least: float = 0.0) -> MemoryNeed:
    """Return a need, in GiB."""
    return MemoryNeed(fixed_bytes=int(fixed * GIB), bytes_per_image=per_image * GIB, least_bytes=int(least * GIB))


@pytest.mark.parametrize(
    ("options", "nodes", "expected"),
    [
        ({}, [Node(2)], (1, 0, 2)),
        ({}, DESKTOPS, (12, 1, 8)),
        ({"gpus_per_trial": 0.5}, DESKTOPS, (6, 0.5, 4)),
        ({"gpus_per_trial": 0.0}, DESKTOPS, (1, 0, 28)),
        ({"cpus_per_trial": 2.0}, [Node(5)], (2, 0, 2)),
        ({"concurrency": 1}, DESKTOPS, (12, 1, 1)),
        ({"gpus_per_trial": 1 / 3, "cpus_per_trial": 1.0}, [Node(8, 1)], (1, 1 / 3, 3)),
    ],
)
def test_a_cluster_is_divided_among_trials(
    options: dict[str, Any], nodes: list[Node], expected: tuple[float, float, int]
) -> None:
    placement = place(RunOptions(trials=1, **options), nodes)

    assert (placement.whole.cpus, placement.whole.gpus, placement.concurrency) == expected


def test_a_trial_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(UsageError, match="no machine can hold a trial of 4 CPUs"):
        place(RunOptions(trials=1, cpus_per_trial=4), [Node(2), Node(3)])


def test_rays_words_name_what_a_node_offers() -> None:
    words = {"CPU": 12.0, "GPU": 1.0, "vram_gb": 11.9, "memory": 1e10, "node:10.0.0.1": 1.0}

    assert as_node({**words, "node:__internal_head__": 1.0}) == Node(12, 1, 11.9, "10.0.0.1")
    assert as_node({"CPU": 2.0}).card_gb == 0


def test_frozen_trials_share_a_card_and_the_others_take_one() -> None:
    placement = place(RunOptions(trials=1), DESKTOPS)

    frozen, whole = placement.fit("backbone", 64, need(0.5, 0.001)), placement.fit("none", 64, need(2, 0.05))

    assert frozen is not None
    assert whole is not None
    assert frozen.share == Share(3, 0.25, 2)
    assert whole.share == Share(12, 1, 8)
    assert frozen.micro_batch is whole.micro_batch is None


def test_a_batch_waits_for_the_card_that_holds_it_or_is_split() -> None:
    placement = place(RunOptions(trials=1), DESKTOPS)
    vgg = need(2, 0.04)

    waits, split = placement.fit("none", 192, vgg), placement.fit("none", 256, vgg)

    assert gigabytes(vgg, 192) == pytest.approx(CONTEXT_GB + MARGIN * (2 + 192 * 0.04))
    assert waits is not None
    assert (waits.share.vram_gb, waits.micro_batch) == (12, None)
    assert split is not None
    assert (split.share.vram_gb, split.micro_batch) == (12, 128)


def test_what_was_measured_corrects_what_was_estimated() -> None:
    placement = place(RunOptions(trials=1), DESKTOPS)

    fit = placement.fit("none", 64, need(1, 0.05), 2.0)

    assert fit is not None
    assert fit.share.vram_gb == 12


def test_a_trial_that_no_card_holds_has_no_fit() -> None:
    placement = place(RunOptions(trials=1), DESKTOPS)

    assert placement.fit("none", 64, need(16, 0.1)) is None


def test_what_was_measured_of_a_frozen_trial_makes_no_estimate_smaller() -> None:
    found_features = {"estimated": 2.0, "measured": 1.0}

    assert correction("none", found_features) == 0.5
    assert correction("backbone", found_features) == 1.0
    assert correction("partial", {"estimated": 2.0, "measured": 3.0}) == 1.5
    assert correction("none", None) == 1.0


def test_what_no_machine_could_ever_run_is_known() -> None:
    asked = Share(4, 1, 12)

    assert can_hold([Node(8, 1, 8), Node(8, 1, 12)], asked)
    assert not can_hold([Node(8, 1, 8)], asked)
    assert not can_hold([Node(2, 1, 12)], asked)


def test_where_a_node_has_several_cards_a_share_of_one_keeps_its_memory() -> None:
    placement = place(RunOptions(trials=1), [Node(16, 2, 24)])

    small, large = placement.fit("backbone", 64, need(0.5, 0.001)), placement.fit("backbone", 64, need(4, 0.001))

    assert small is not None
    assert large is not None
    assert small.share.gpus == 0.25
    assert large.share.gpus * 12 == large.share.vram_gb == 6


def test_a_card_is_registered_in_whole_gigabytes() -> None:
    assert [registered(gb) for gb in (23.99, 7.996, 12.0, 79.65, 7.8)] == [24, 8, 12, 79, 7]


def test_a_card_that_is_gone_keeps_no_other_card_waiting() -> None:
    placement = place(RunOptions(trials=1), DESKTOPS[1:])

    assert placement.has_room([], [LARGE])


@pytest.mark.parametrize("nodes", [[Node(2)], [Node(8, 1), Node(8, 1, 8)]], ids=["no card", "a card that says nothing"])
def test_where_memory_is_unknown_none_is_asked_for(nodes: list[Node]) -> None:
    placement = place(RunOptions(trials=1), nodes)

    fit = placement.fit("none", 4096, need(16, 0.1))

    assert fit is not None
    assert fit.share.vram_gb == 0
    assert "vram_gb" not in fit.share.resources


SMALL, LARGE, FROZEN = Share(12, 1, 8), Share(12, 1, 12), Share(3, 0.25, 2)


def test_a_waiting_trial_keeps_its_card_and_lets_the_others_go_on() -> None:
    placement = place(RunOptions(trials=1), DESKTOPS)

    assert placement.has_room([(SMALL, None)], [])
    assert not placement.has_room([(SMALL, None)] * 2, [])
    # The large one waits for the 12 GB card; the 8 GB card is free for another.
    assert placement.has_room([(LARGE, None)], [LARGE])
    # Room beside frozen trials on the card that the large one waits for is not given to others.
    assert not placement.has_room([(SMALL, None), (FROZEN, None), (FROZEN, None)], [LARGE])
    assert placement.has_room([(FROZEN, None), (FROZEN, None)], [])


def test_where_a_trial_runs_counts_once_that_is_known() -> None:
    placement = place(RunOptions(trials=1), DESKTOPS)

    # Ray may have put a small trial on the large card: then the small card is free.
    assert placement.has_room([(SMALL, "10.0.0.1")], [LARGE])
    assert not placement.has_room([(SMALL, "10.0.0.2")], [LARGE])


shares = st.sampled_from([SMALL, LARGE, FROZEN, Share(3, 0.25, 3)])
places = st.sampled_from([None, "10.0.0.1", "10.0.0.2", "10.0.0.9"])


@given(running=st.lists(st.tuples(shares, places), max_size=8), waiting=st.lists(shares, max_size=4))
def test_no_trial_is_drawn_where_no_share_of_a_card_is_left(
    running: list[tuple[Share, str | None]], waiting: list[Share]
) -> None:
    placement = place(RunOptions(trials=1), DESKTOPS)

    if placement.has_room(running, waiting):
        assert len(running) + len(waiting) < placement.concurrency


@given(batch=st.integers(1, 1024), fixed=st.floats(0, 10), per_image=st.floats(0, 0.5))
def test_what_is_asked_for_is_what_the_card_must_hold(batch: int, fixed: float, per_image: float) -> None:
    placement = place(RunOptions(trials=1), DESKTOPS)
    wanted = need(fixed, per_image)

    fit = placement.fit("none", batch, wanted)

    if fit is None:
        assert gigabytes(wanted, min(batch, 2)) > 12
    else:
        assert gigabytes(wanted, fit.micro_batch or batch) <= fit.share.vram_gb <= 12
