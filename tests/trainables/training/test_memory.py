"""The estimate agrees with counting by hand, with real steps on the CPU and with what was published for GPUs."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models import get_model, get_model_weights

from trainables.config import (
    FREEZE_MODES,
    PAPER_BACKBONES,
    Augment,
    DataConfig,
    FreezeMode,
    HeadKind,
    MemoryNeed,
    ModelConfig,
    TrialConfig,
)
from trainables.errors import InputError
from trainables.networks import freeze
from trainables.networks.identity import geometry_of
from trainables.training import memory
from trainables.training.epoch import EVALUATION_BATCH
from trainables.training.feature_store import applies

META, CPU = torch.device("meta"), torch.device("cpu")
GIB = 2**30
BACKBONES = [
    pytest.param(name, marks=() if name in ("resnet18", "vit") else pytest.mark.slow)
    for name in sorted(set(PAPER_BACKBONES) - {"simclr"})
]
"""A convolutional network and a transformer; `make test-slow` has the others too. (The simclr one is resnet50's.)"""


def plain() -> nn.Sequential:
    """(B, 3, S, S) -> (B, 4): so small that all its tensors can be listed."""
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Curious(nn.Module):
    """Looks at its activations' values, which the meta device has not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.inner(images)
        return features if features.sum().item() < torch.inf else features.exp()


class Looping(nn.Module):
    """Takes its images one by one, so that a step on more of them has more operations."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.inner(image) for image in images.chunk(len(images))])


def curious() -> nn.Module:
    """`plain`, but it has to be run."""
    return Curious()


def looping() -> nn.Module:
    """`plain`, image by image."""
    return Looping()


Asked = tuple[ModelConfig, FreezeMode]


def config(name: str, mode: FreezeMode = "none", head: HeadKind = "projection", size: int | None = None) -> Asked:
    model = ModelConfig(
        backbone=f"tests.trainables.training.test_memory:{name}" if name in {"plain", "curious", "looping"} else name,
        head=head,
        image_size=size,
    )
    return model, mode


def estimate(asked: Asked, width: int = 2, augment: Augment = "none", classes: int = 37) -> MemoryNeed:
    return memory.estimate(*asked, classes=classes, augment=augment, width=width)


def published(name: str, width: int) -> MemoryNeed:
    """The need of a network as it was published, with one linear layer for 1,000 classes, when all of it trains."""
    return estimate(config(name, head="linear"), width=width, classes=1000)


def whole(asked: Asked, device: torch.device, width: int = 4, augment: Augment = "none") -> memory._Part:
    """The network of `model` on `device`, ready to train on pixels."""
    model, mode = asked
    network = memory._network(model, 10, None, device)
    freeze.apply(network, mode)
    freeze.train_mode(network, mode)
    size = geometry_of(model).crop
    return memory._Part(network.model, (3, size, size), torch.uint8, device, width, augment)


def test_a_small_network_in_float32_needs_what_counting_gives() -> None:
    need = estimate(config("plain", head="linear", size=8), width=4, classes=3)

    parameters = (3 * 4 + 4) + (4 * 3 + 3)
    pixels, label = 3 * 8 * 8, 8
    normalised, channels = 4 * pixels, 4 * (4 * 8 * 8)
    assert need.fixed_bytes == 4 * parameters * 4  # float32: themselves, their gradients and Adam's two moments
    # When ReLU's gradient is computed: this batch and the next as bytes, the labels, what the convolution was given,
    # ReLU's output, and the gradients of its output and of its input.
    assert need.bytes_per_image == 2 * pixels + label + normalised + 3 * channels
    # When ReLU is computed: the batch as bytes, what the convolution was given, and ReLU's input and output.
    assert need.least_bytes == need.fixed_bytes + EVALUATION_BATCH * (pixels + normalised + 2 * channels)


def test_a_small_network_under_autocast_needs_what_counting_gives() -> None:
    need = estimate(config("plain", head="linear", size=8), width=2, classes=3)

    parameters = (3 * 4 + 4) + (4 * 3 + 3)
    pixels, label = 3 * 8 * 8, 8
    normalised, channels = 4 * pixels, 2 * (4 * 8 * 8)
    assert need.fixed_bytes == 4 * parameters * 4 + 2 * parameters
    # When ReLU is computed: as in float32, and the copy in half the width that the convolution took.
    assert need.bytes_per_image == 2 * pixels + label + normalised + normalised / 2 + 2 * channels


def test_the_need_grows_with_the_images_but_never_falls_below_the_least() -> None:
    need = MemoryNeed(fixed_bytes=100, bytes_per_image=2.5, least_bytes=120)

    assert [need.bytes_at(images) for images in (1, 8, 9, 64)] == [120, 120, 123, 260]


def test_a_step_on_the_meta_device_allocates_what_a_real_one_does() -> None:
    model = config("resnet18", size=32)

    assert memory._train(whole(model, META), 4) == memory._train(whole(model, CPU), 4)


def test_what_is_alive_after_the_forward_pass_is_what_autograd_saved() -> None:
    part = whole(config("resnet18", size=32), CPU)
    known = {tensor.untyped_storage()._cdata for tensor in (*part.module.parameters(), *part.module.buffers())}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in known:
            saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    inputs = part.inputs(4).float()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        cross_entropy(part.module(inputs), torch.zeros(4, dtype=torch.int64))
    really = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())

    estimated = whole(config("resnet18", size=32), META)
    alive = memory._Alive(estimated.module)
    with alive:
        labels = torch.zeros(4, dtype=torch.int64, device=META)
        loss = cross_entropy(estimated.module(estimated.inputs(4).float()), labels)
        loss.view(1)  # An operation after which the bytes are counted once more.
    assert alive.bytes_after[-1] == really + loss.nbytes


@pytest.mark.parametrize("name", BACKBONES)
def test_memory_is_linear_in_the_images(name: str) -> None:
    part = whole(config(name, size={"inception": 75, "vit": 32}.get(name, 33)), META, width=2)
    two, four, eight = (memory._train(part, images) for images in (2, 4, 8))

    assert [c - b for b, c in zip(four, eight, strict=True)] == [2 * (b - a) for a, b in zip(two, four, strict=True)]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_frozen_backbone_needs_less(name: str) -> None:
    free, partial, frozen = (estimate(config(name, mode)).bytes_at(64) for mode in FREEZE_MODES)

    assert frozen < partial < 0.75 * free


@pytest.mark.parametrize("name", BACKBONES)
def test_half_the_width_is_about_half_the_memory_of_an_image(name: str) -> None:
    narrow, wide = (published(name, width).bytes_per_image for width in (2, 4))

    # Indices of a pooling, pixels, and normalisation and softmax under autocast keep their width.
    assert 0.5 < narrow / wide < 0.67


COMPUTING = {
    *("convolution", "addmm", "_softmax", "native_batch_norm", "native_layer_norm", "relu", "relu_", "gelu"),
    *("add", "add_", "cat", "mean", "_adaptive_avg_pool2d", "max_pool2d_with_indices", "avg_pool2d"),
}
"""Operations that a network is computed by on any device; dropout and attention take others on some."""


class Types(TorchDispatchMode):  # type: ignore[no-untyped-call] # so are its initialisers
    """Notes the types of what the operations of a forward pass give."""

    def __init__(self, part: memory._Part) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: dict[str, set[torch.dtype]] = {}
        with torch.no_grad(), self:
            part.module(part.inputs(2).float())

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in COMPUTING:
            types_made = {tensor.dtype for tensor in tree_leaves(made) if isinstance(tensor, Tensor)}
            self.seen.setdefault(func.overloadpacket.__name__, set()).update(types_made)
        return made


@pytest.mark.skipif(torch.version.cuda is None, reason="this build of torch knows no CUDA")
@pytest.mark.parametrize("name", BACKBONES)
def test_the_table_of_types_is_what_autocast_does_on_a_gpu(name: str) -> None:
    part = whole(config(name), META, width=2)
    with part.autocast():
        ours = Types(part).seen

    # Fake tensors need no card; `torch.autocast` would refuse to work without one, but not what it sets.
    with FakeTensorMode(allow_non_fake_inputs=True):
        cuda = dataclasses.replace(part, module=part.module.to_empty(device="cuda:0"), device=torch.device("cuda:0"))
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        torch.set_autocast_enabled("cuda", True)
        try:
            torchs = Types(cuda).seen
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.clear_autocast_cache()

    shared = ours.keys() & torchs.keys()  # With a card at hand batch norm is cuDNN's, for one.
    assert {"convolution", "addmm"} <= shared
    assert {name: ours[name] for name in shared} == {name: torchs[name] for name in shared}


@pytest.mark.parametrize(("name", "architecture"), PAPER_BACKBONES.items())
def test_the_fixed_part_follows_from_the_published_number_of_parameters(name: str, architecture: str) -> None:
    need = published(name, width=4)

    arguments = {"aux_logits": True, "init_weights": False} if architecture == "inception_v3" else {}
    with torch.device("meta"):
        model = get_model(architecture, weights=None, **arguments)
    count = get_model_weights(architecture).DEFAULT.meta["num_params"]
    # Inception's auxiliary classifier is no part of a fine-tuned network.
    auxiliary = getattr(model, "AuxLogits", nn.Identity())
    parameters = count - sum(parameter.numel() for parameter in auxiliary.parameters())
    buffers = sum(buffer.nbytes for buffer in model.buffers()) - sum(buffer.nbytes for buffer in auxiliary.buffers())
    assert need.fixed_bytes == 4 * 4 * parameters + buffers


@pytest.mark.parametrize("augment", ["none", "standard"])
@pytest.mark.parametrize("head", ["projection", "paper"])
@pytest.mark.parametrize("mode", FREEZE_MODES)
def test_a_trial_on_cached_features_needs_what_its_head_needs(
    mode: FreezeMode, head: HeadKind, augment: Augment
) -> None:
    model = config("resnet18", mode, head, size=64)
    trial = TrialConfig(
        data=DataConfig(dataset="pets", augment=augment),
        model=model[0],
        freeze_mode=mode,
        learning_rate=0.1,
        batch_size=8,
        epochs=1,
    )
    cached = applies(trial) and mode == "backbone"
    need = estimate(model, augment=augment)

    # Of 512 features the widest head makes 512 twice, their gradients and a few logits; an image has 12,288 values.
    assert (need.bytes_per_image < 12_288) == cached
    assert need.least_bytes - need.fixed_bytes > EVALUATION_BATCH * 4 * 12_288


def test_augmentation_takes_memory_where_little_else_does() -> None:
    model = config("plain", size=8)

    assert estimate(model, augment="standard").bytes_per_image > estimate(model).bytes_per_image


def test_a_network_that_looks_at_values_is_run_on_the_cpu() -> None:
    assert estimate(config("curious", size=8), width=4) == estimate(config("plain", size=8), width=4)


def test_of_a_network_whose_steps_cannot_be_compared_everything_counts_for_an_image() -> None:
    need = estimate(config("looping", head="linear", size=8), width=4, classes=3)

    pixels, label, normalised, channels = 3 * 8 * 8, 8, 4 * 3 * 8 * 8, 4 * (4 * 8 * 8)
    saved = 2 * pixels + label + normalised + channels
    # On top come the gradients of one image at a time, a quarter of them for each of the four that were tried.
    assert saved + channels / 2 < need.bytes_per_image < saved + channels


def test_a_network_whose_constructor_looks_at_values_is_built_on_the_cpu() -> None:
    network = memory._network(config("torchvision:maxvit_t")[0], 10, None, META)

    assert all(parameter.is_meta for parameter in network.model.parameters())


def test_a_step_that_fails_is_the_users_mistake() -> None:
    with pytest.raises(InputError, match="this backbone never learns"):
        estimate((ModelConfig(backbone="tests.failing_backbones:broken", image_size=8), "none"))
    with pytest.raises(InputError, match="multiples of its patch size"):
        estimate(config("vit", size=33))


# Millions of outputs of convolutions and matrix products for one image: column infer_macts of timm's benchmarks,
# https://github.com/huggingface/pytorch-image-models/blob/main/results/benchmark-infer-amp-nchw-pt113-cu117-rtx3090.csv
PUBLISHED_ACTIVATIONS = {
    "resnet18": 2.48,
    "resnet50": 11.11,
    "vgg": 12.25,
    "inception": 8.97,
    "vit": 5.01,
    "swin": 17.06,
}


class Outputs(TorchDispatchMode):  # type: ignore[no-untyped-call] # so are its initialisers
    """Counts the outputs of convolutions and matrix products."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in {"convolution", "addmm", "mm", "bmm"}:
            self.count += made.numel()
        return made


@pytest.mark.parametrize(("name", "millions"), PUBLISHED_ACTIVATIONS.items())
def test_what_is_saved_agrees_with_the_published_number_of_activations(name: str, millions: float) -> None:
    part = whole(config(name, head="linear"), META)
    outputs = Outputs()  # type: ignore[no-untyped-call]
    with outputs:
        part.module.eval()(part.inputs(1).float())
    per_image = published(name, width=4).bytes_per_image

    assert outputs.count / 1e6 == pytest.approx(millions, rel=0.01)
    # Each is saved once at least, as the input of what follows: VGG's ReLU works in place, so that 12.25 is nearly all
    # of it but for pooling's indices of 8 bytes. A normalisation or a GELU saves its own input as well, hence about
    # twice as much, and Inception saves its branches once more where it joins them.
    assert 1.3 < per_image / (4 * millions * 1e6) < 2.9


# (backbone, bytes of an activation, GPU's memory, images that fitted, the next number tried, which did not)
# An RTX 3090 whose largest batch was 512, torch 1.12 with autocast, SGD, column train_batch_size:
# https://github.com/huggingface/pytorch-image-models/blob/main/results/benchmark-train-amp-nchw-pt112-cu113-rtx3090.csv
# ActNN's and GACT's machine, a T4 of 16 GB by ActNN's paper (arXiv 2104.14129), torch 1.7 in float32, SGD and the
# networks of torchvision; lines "actnn-L0" of speed_results_v1.json and "L0" of speed_results.json, in
# https://github.com/LiuXiaoxuanPKU/GACT-ICML/tree/18076b69be14079766807464cb0beaad086cdd96/benchmark/vision/speed_mem
# The memory is what torch's messages give as "total capacity" of such GPUs.
RTX_3090, T4 = int(23.7 * GIB), int(14.75 * GIB)
PUBLISHED_LIMITS = [
    ("resnet18", 2, RTX_3090, 512, None),
    ("resnet50", 2, RTX_3090, 512, None),
    ("vgg", 2, RTX_3090, 512, None),
    ("inception", 2, RTX_3090, 384, 512),
    ("vit", 2, RTX_3090, 512, None),
    ("swin", 2, RTX_3090, 256, 384),
    ("resnet50", 4, T4, 160, 176),
    ("torchvision:resnet152", 4, T4, 64, 76),
]


@pytest.mark.parametrize(("name", "width", "gpu", "fitted", "failed"), PUBLISHED_LIMITS)
def test_published_batches_fit_and_the_next_larger_do_not(
    name: str, width: int, gpu: int, fitted: int, failed: int | None
) -> None:
    need = published(name, width)

    assert need.bytes_at(fitted) < gpu
    # A tenth is left for what is not counted: the context, convolutions' workspaces and fragments.
    assert failed is None or need.bytes_at(failed) > 0.9 * gpu
