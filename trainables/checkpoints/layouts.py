"""How publishers name the parts of a ResNet: recognised by the names that a state dict has, and put into torchvision's.

A layout is a row of `LAYOUTS`. Beside its names it says how images were prepared for its training, where the names
decide that: each row gives the file of the publisher's code that this was read in.
"""

import itertools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from trainables.checkpoints.torch_records import WeightsFileError, shown
from trainables.config import IMAGENET, Geometry

_T = TypeVar("_T")

_WRAPPERS = r"(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
"""What DistributedDataParallel, torch.compile, FSDP and activation checkpointing put in front of a module's names."""
_ANYWHERE, _IN_FRONT = re.compile(rf"(?:(?<=\.)|^){_WRAPPERS}"), re.compile(rf"^(?:{_WRAPPERS})+")

_SIMCLR_V2_PARTS = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
_RENAMED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        # nn.Sequential(*list(resnet.children())[:-1]): 2 and 3 are ReLU and max-pooling.
        (r"0\.", "conv1."),
        (r"1\.", "bn1."),
        *((rf"{3 + stage}\.", f"layer{stage}.") for stage in range(1, 5)),
        # Separius/SimCLRv2-Pytorch, resnet.py: a stem, then four `Blocks`; each batch norm is in a Sequential.
        (r"net\.0\.0\.", "conv1."),
        (r"net\.0\.1\.0\.", "bn1."),
        *(
            (rf"net\.([1-4])\.blocks\.(\d+)\.net\.{number}\.{'0.' if number % 2 else ''}", rf"layer\1.\2.{part}.")
            for number, part in enumerate(_SIMCLR_V2_PARTS)
        ),
        (r"net\.([1-4])\.blocks\.(\d+)\.projection\.shortcut\.", r"layer\1.\2.downsample.0."),
        (r"net\.([1-4])\.blocks\.(\d+)\.projection\.bn\.0\.", r"layer\1.\2.downsample.1."),
    )
)
"""What names begin with that are not torchvision's."""
_OF_A_RESNET = ("conv1.weight", "layer1.0.conv1.weight")
_FIRST_OF_A_STAGE = ("conv1.weight", ".net.0.weight")
"""What one of the names ends with, whoever gave it."""
_MOST_NAMES = 20_000
"""Of a ResNet-200, its momentum encoder and all around them there are some 3,000."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names that one publisher gives to an encoder and to what lies beside it, wrappers aside."""

    name: str
    """As ``--geometry-of`` calls it; empty: nobody's in particular."""
    publisher: str
    encoder: str = ""
    """What the encoder's names begin with."""
    signs: tuple[tuple[str, ...], ...] = ()
    """Of each group there must be a name that begins so."""
    beside: tuple[str, ...] = ()
    """What names begin with that are no part of the encoder, but of its training; they are left out."""
    projection: tuple[str, ...] = ()
    """The same of the encoder's own names, without `encoder`."""
    geometry: Geometry | None = None
    """The evaluation transform of its training; None: the names do not decide it."""


def _unnormalised(resize: int, crop: int, interpolation: str) -> Geometry:
    """Pixels from 0 to 1."""
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Geometry(resize=resize, crop=crop, interpolation=interpolation, mean=zero, std=one)


def _imagenet(resize: int, crop: int, interpolation: str = "bilinear") -> Geometry:
    return Geometry(resize=resize, crop=crop, interpolation=interpolation, mean=IMAGENET.mean, std=IMAGENET.std)


# pl_bolts/transforms/self_supervised/simclr_transforms.py: SimCLREvalDataTransform, a tenth larger than the crop;
# imagenet_normalization. Its networks for CIFAR-10 and STL-10 have no max-pooling, and are refused.
_BOLTS = _imagenet(246, 224)
# main_swav.py, eval_linear.py and src/multicropdataset.py of facebookresearch/swav: std is not ImageNet's usual one.
_SWAV = Geometry(resize=256, crop=224, interpolation="bilinear", mean=IMAGENET.mean, std=(0.228, 0.224, 0.225))
# data_aug/contrastive_learning_dataset.py of sthalles/SimCLR and config/config.yaml of sthalles/PyTorch-BYOL: STL-10
# at 96 px by default, ToTensor alone.
_STHALLES = _unnormalised(96, 96, "bilinear")
# solo/data/classification_dataloader.py: T_val of ImageNet.
_SOLO = IMAGENET
_SOLO_BESIDE = (
    *("classifier.", "projector.", "predictor.", "head.", "prototypes.", "queue", "dino_loss_func."),
    *("momentum_backbone.", "momentum_encoder.", "momentum_projector.", "momentum_classifier.", "momentum_head."),
)
_SOLO_SIGNS = (("classifier.weight",), ("projector.", "head."))

LAYOUTS: tuple[Layout, ...] = (
    # vissl/models/trunks/resnext.py; configs/config/benchmark/linear_image_classification/imagenet1k/
    # eval_resnet_8gpu_transfer_in1k_linear.yaml: TEST.
    Layout(name="vissl", publisher="VISSL", encoder="_feature_blocks.", geometry=IMAGENET),
    # moco/builder.py of facebookresearch/moco; main_lincls.py: Resize(256), CenterCrop(224), ImageNet's normalisation.
    # lightning-bolts has the same names, and queues of its validation.
    Layout(
        name="moco",
        publisher="MoCo",
        encoder="encoder_q.",
        beside=("encoder_k.", "queue", "val_queue"),
        projection=("fc.",),
        geometry=IMAGENET,
    ),
    # moco/builder.py and main_lincls.py of facebookresearch/moco-v3.
    Layout(
        name="moco-v3",
        publisher="MoCo v3",
        encoder="base_encoder.",
        beside=("momentum_encoder.", "predictor."),
        projection=("fc.",),
        geometry=IMAGENET,
    ),
    # byol_pytorch/byol_pytorch.py: the network is there twice; its normalisation, and README.md: image_size = 256.
    Layout(
        name="byol-pytorch",
        publisher="lucidrains/byol-pytorch",
        encoder="online_encoder.net.",
        beside=("net.", "online_encoder.projector.", "online_predictor.", "target_encoder."),
        projection=("fc.",),
        geometry=_imagenet(256, 256),
    ),
    # pl_bolts/models/self_supervised/byol/models.py, byol_module.py: SimCLR's transforms.
    Layout(
        name="lightning-bolts-byol",
        publisher="lightning-bolts' BYOL",
        encoder="online_network.encoder.",
        beside=("online_network.projector.", "target_network.", "predictor."),
        projection=("fc.",),
        geometry=_BOLTS,
    ),
    # models/resnet_base_network.py of sthalles/PyTorch-BYOL, which spells its projection so.
    Layout(
        name="sthalles-byol",
        publisher="sthalles/PyTorch-BYOL",
        encoder="encoder.",
        signs=(("projetion.",),),
        beside=("projetion.",),
        geometry=_STHALLES,
    ),
    # pl_bolts/models/self_supervised/simclr/simclr_module.py; the encoder's own final layer is never trained.
    Layout(
        name="lightning-bolts",
        publisher="lightning-bolts",
        encoder="encoder.",
        signs=(("projection.model.",),),
        beside=("projection.", "non_linear_evaluator."),
        projection=("fc.",),
        geometry=_BOLTS,
    ),
    # solo/methods/base.py, and simclr.py, byol.py, mocov2plus.py, dino.py beside it; earlier versions: `encoder.`.
    *(
        Layout(
            name="solo-learn",
            publisher="solo-learn",
            encoder=encoder,
            signs=_SOLO_SIGNS,
            beside=_SOLO_BESIDE,
            geometry=_SOLO,
        )
        for encoder in ("backbone.", "encoder.")
    ),
    # simclr/simclr.py and simclr/modules/transformations/simclr.py of Spijkervet/SimCLR: ToTensor alone;
    # config/config.yaml: image_size 224.
    Layout(
        name="spijkervet",
        publisher="Spijkervet/SimCLR",
        encoder="encoder.",
        signs=(("projector.",),),
        beside=("projector.",),
        geometry=_unnormalised(224, 224, "bilinear"),
    ),
    # main_dino.py and vision_transformer.py (DINOHead) of facebookresearch/dino; eval_linear.py: interpolation 3.
    Layout(
        name="dino",
        publisher="DINO",
        encoder="backbone.",
        signs=(("head.mlp.",), ("head.last_layer.",)),
        beside=("head.",),
        geometry=_imagenet(256, 224, "bicubic"),
    ),
    # examples/pytorch_lightning/simclr.py (numbers) and benchmarks/imagenet/resnet50 (names): linear_eval.py.
    Layout(
        name="lightly",
        publisher="Lightly",
        encoder="backbone.",
        signs=(("projection_head.",),),
        beside=(
            *("projection_head.", "prediction_head.", "online_classifier.", "criterion.", "prototypes."),
            *("backbone_momentum.", "projection_head_momentum."),
        ),
        geometry=IMAGENET,
    ),
    # mmpretrain/models/selfsup; configs/_base_/datasets/imagenet_bs32_pil_resize.py, of its linear probes.
    Layout(
        name="openmmlab",
        publisher="OpenMMLab",
        encoder="backbone.",
        signs=(("neck.", "data_preprocessor.", "target_generator."),),
        beside=(
            *("neck.", "head.", "data_preprocessor.", "target_generator."),
            *("encoder_k.", "queue", "target_net.", "momentum_encoder."),
        ),
        geometry=IMAGENET,
    ),
    # models/resnet_simclr.py of sthalles/SimCLR.
    Layout(
        name="sthalles",
        publisher="sthalles/SimCLR",
        encoder="backbone.",
        signs=(("backbone.fc.0.",),),
        projection=("fc.",),
        geometry=_STHALLES,
    ),
    # src/resnet50.py: its padding of 1 in front of one of 2 is torchvision's of 3. lightning-bolts has it in `model.`.
    *(
        Layout(
            name="swav",
            publisher="SwAV",
            encoder=prefix,
            signs=((f"{prefix}prototypes.",), (f"{prefix}projection_head.",)),
            projection=("prototypes.", "projection_head."),
            geometry=_SWAV,
        )
        for prefix in ("", "model.")
    ),
    # Separius/SimCLRv2-Pytorch, convert.py, from google-research/simclr: data_util.py takes 0.875 of the shorter side
    # and scales it by bicubic interpolation to 224 px, from 0 to 1. Google's max-pooling pads at the end alone; the
    # converted network, which is what the names are of, on both sides, as torchvision's.
    Layout(
        name="google-simclr",
        publisher="Google's SimCLR v2",
        signs=(("net.0.0.",),),
        geometry=_unnormalised(256, 224, "bicubic"),
    ),
    # Nobody's in particular: parts cut out of one of these, torchvision's and timm's own names, hpo's final models,
    # DINO's published ResNet, and google-research/simclr's v1 by tonylins/simclr-converter.
    Layout(name="", publisher="", encoder="backbone.", beside=("head.",)),
    Layout(name="", publisher="", encoder="encoder."),
    Layout(name="", publisher=""),
)
"""In the order in which they are tried."""

GEOMETRIES: dict[str, Geometry] = {one.name: one.geometry for one in LAYOUTS if one.geometry is not None}
"""The transform of each layout by its name."""


def recognise(names: Collection[str]) -> Layout | None:
    """Return the layout of a ResNet's state dict; None: it is no ResNet's, or of nobody who is known here."""
    if len(names) > _MOST_NAMES or not any(name.endswith(_FIRST_OF_A_STAGE) for name in names):
        return None
    plain = [_ANYWHERE.sub("", name) for name in names]
    return next((layout for layout in LAYOUTS if _is_of(layout, plain)), None)


def in_torchvisions_names(state: Mapping[str, _T], layout: Layout) -> dict[str, _T]:
    """Rename a state dict's parts, without what `layout` has beside the encoder.

    What is in no place that the layout knows keeps its name, and thus fits no network.

    Raises:
        WeightsFileError: Two parts have one name then.
    """
    kept = {}
    for name in state:
        plain = _ANYWHERE.sub("", name)
        renamed = _within(layout, plain)
        if renamed is not None and renamed.startswith(layout.projection):
            continue
        if renamed is None and plain.startswith(layout.beside):
            continue
        kept[name] = renamed if renamed is not None else plain
    return _renamed(state, kept)


def without_wrappers(state: Mapping[str, _T]) -> dict[str, _T]:
    """Take off what wrappers put in front of the names of any network.

    Raises:
        WeightsFileError: Two parts have one name then.
    """
    return _renamed(state, {name: _IN_FRONT.sub("", name) for name in state})


def described_resnet(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return in words which ResNet the names and shapes are of, and what of it torchvision has not; empty: none.

    Args:
        shapes: Of each part, in torchvision's names as far as they could be put into them.
    """
    lack = _lack(shapes)
    if lack is not None:
        return f"a ResNet with {lack}, which torchvision's have not"
    if not all(name in shapes for name in _OF_A_RESNET):
        return ""
    blocks = [len({name.split(".")[1] for name in shapes if name.startswith(f"layer{n}.")}) for n in range(1, 5)]
    said = ", ".join(map(str, blocks))
    depth = (_BOTTLENECKS if "layer1.0.conv3.weight" in shapes else _BASIC).get(said)
    # Those of Wide ResNets and ResNeXts differ.
    channels, group = (*shapes.get("layer1.0.conv2.weight", ()), 64, 64)[:2]
    inner = f" with {channels} channels within its first blocks" if channels != 64 else ""
    grouped = f", in groups of {group}" if group != channels else ""
    return f"{f'a ResNet-{depth}' if depth else f'a ResNet of {said} blocks'}{inner}{grouped}"


_BASIC = {"2, 2, 2, 2": 18, "3, 4, 6, 3": 34}
_BOTTLENECKS = {"3, 4, 6, 3": 50, "3, 4, 23, 3": 101, "3, 8, 36, 3": 152, "3, 24, 36, 3": 200}
"""The depth by the blocks of the four stages."""


def _lack(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    if any(".main_conv." in name for name in shapes):
        return "SimCLR v2's selective kernels"
    if not any(re.search(r"(?:^|\.)(?:layer1|2)\.0\.conv1\.weight$", name) for name in shapes):
        return None
    if any(re.search(r"(?:^|\.)(?:stem|conv1)\.\d+\.", name) for name in shapes):
        return "a stem of several convolutions (ResNet-C, ResNet-D)"
    # Lightly's own network for small images is a Sequential without ReLU and max-pooling.
    stem = shapes.get("conv1.weight", shapes.get("0.weight", ()))
    if len(stem) == 4 and stem[2:] != (7, 7):
        return f"a stem for small images ({stem[2]}x{stem[3]} instead of 7x7)"
    if len(stem) == 4 and stem[0] != 64:
        return f"{stem[0] / 64:g}x the width (wide_resnet50_2 is wider within its blocks alone)"
    return "squeeze and excitation" if any(".se." in name for name in shapes) else None


def _is_of(layout: Layout, plain: Collection[str]) -> bool:
    if not all(any(name.startswith(group) for name in plain) for group in layout.signs):
        return False
    own = {name for name in (_within(layout, one) for one in plain) if name is not None}
    return all(name in own for name in _OF_A_RESNET)


def _within(layout: Layout, plain: str) -> str | None:
    """Return what torchvision calls a part of the encoder; None: it is none."""
    if not plain.startswith(layout.encoder) or (not layout.encoder and plain.startswith(layout.beside)):
        return None
    name = plain.removeprefix(layout.encoder)
    for pattern, replacement in _RENAMED:
        if found := pattern.match(name):
            return found.expand(replacement) + name[found.end() :]
    return name


def _renamed(state: Mapping[str, _T], names: Mapping[str, str]) -> dict[str, _T]:
    if len(set(names.values())) < len(names):
        ordered = sorted(names, key=lambda name: names[name])
        first, second = next(pair for pair in itertools.pairwise(ordered) if names[pair[0]] == names[pair[1]])
        raise WeightsFileError(
            f"{shown(first)} and {shown(second)} both mean {shown(names[first])}; write the encoder's state dict alone"
        )
    return {name: state[old] for old, name in names.items()}
