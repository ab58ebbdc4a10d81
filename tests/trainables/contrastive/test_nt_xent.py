"""NT-Xent against the paper's Algorithm 1, line by line, and what else the similarities say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.contrastive.nt_xent import alignment, contrastive_top1, nt_xent, similarities, uniformity


def algorithm_1(projections: Tensor, temperature: float) -> float:
    """Chen et al. 2020, Algorithm 1, from the projections on, with its numbering from 1 and its interleaved views."""
    images = projections.shape[1]
    z: dict[int, list[float]] = {}
    for k in range(1, images + 1):
        z[2 * k - 1] = projections[0, k - 1].tolist()
        z[2 * k] = projections[1, k - 1].tolist()
    s: dict[tuple[int, int], float] = {}
    for i in range(1, 2 * images + 1):
        for j in range(1, 2 * images + 1):
            dot = sum(a * b for a, b in zip(z[i], z[j], strict=True))
            s[i, j] = dot / (math.sqrt(sum(a * a for a in z[i])) * math.sqrt(sum(b * b for b in z[j])))

    def ell(i: int, j: int) -> float:
        below = sum(math.exp(s[i, k] / temperature) for k in range(1, 2 * images + 1) if k != i)
        return -math.log(math.exp(s[i, j] / temperature) / below)

    return sum(ell(2 * k - 1, 2 * k) + ell(2 * k, 2 * k - 1) for k in range(1, images + 1)) / (2 * images)


def drawn(images: int, width: int, seed: int) -> Tensor:
    return torch.randn(2, images, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(
    images=st.integers(2, 7),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    temperature=st.floats(0.05, 5),
    length=st.floats(1e-3, 1e3),
)
@settings(max_examples=60, deadline=None)
def test_nt_xent_is_algorithm_1(images: int, width: int, seed: int, temperature: float, length: float) -> None:
    projections = drawn(images, width, seed) * length

    assert float(nt_xent(projections, temperature)) == pytest.approx(algorithm_1(projections, temperature), rel=1e-9)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
def test_its_gradient_is_that_of_finite_differences(temperature: float) -> None:
    projections = drawn(4, 5, 0).requires_grad_()

    assert torch.autograd.gradcheck(lambda z: nt_xent(z, temperature), (projections,))


def test_views_that_are_all_one_point_are_told_apart_by_chance_alone() -> None:
    similar = similarities(torch.ones(2, 8, 3, dtype=torch.float64))

    assert float(nt_xent(torch.ones(2, 8, 3, dtype=torch.float64), 0.1)) == pytest.approx(math.log(15))
    assert float(alignment(similar)) == pytest.approx(0)
    assert float(uniformity(similar)) == pytest.approx(0)


def test_alignment_and_uniformity_are_those_of_wang_and_isola() -> None:
    projections = drawn(6, 4, 1)
    first, second = torch.nn.functional.normalize(projections, dim=2)

    similar = similarities(projections)

    # The two functions of the paper's appendix A.
    assert float(alignment(similar)) == pytest.approx(float((first - second).norm(p=2, dim=1).pow(2).mean()))
    assert float(uniformity(similar)) == pytest.approx(float(torch.pdist(first, p=2).pow(2).mul(-2).exp().mean().log()))


def test_top1_counts_the_views_whose_partner_is_nearest() -> None:
    axes = torch.eye(3, dtype=torch.float64)
    right, wrong = torch.stack([axes, axes]), torch.stack([axes, axes.roll(1, dims=0)])

    assert float(contrastive_top1(similarities(right))) == 1
    assert float(contrastive_top1(similarities(wrong))) == 0
