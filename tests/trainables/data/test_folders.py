"""Image folders: which layouts are recognised, what is left out, and that no folder at all gives a traceback."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from hpo.errors import UsageError
from hpo.spec import RunOptions
from hpo.studies.preflight import deduplicated, identified, readable
from trainables.config import DataConfig, Geometry
from trainables.data.datasets import training_images
from trainables.data.folders import recognise
from trainables.data.held_out import held_out_images
from trainables.data.splits import split, summary
from trainables.errors import InputError

SMALL = Geometry(resize=4, crop=4, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
CLASSES = ("cat", "dog")
pixel = count()


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    number = next(pixel)
    Image.new("RGB", (4, 4), (number % 256, number // 256 % 256, 0)).save(path)


def tree(root: Path, *folders: str, classes: tuple[str, ...] = CLASSES, images: int = 4) -> DataConfig:
    """Write class folders of images into each of the folders below `root`."""
    for folder in folders:
        for name in classes:
            for number in range(images):
                picture(root / folder / name / f"{number}.png")
    return DataConfig(dataset=f"imagefolder:{root}", layouts="recognised")


def counts(data: DataConfig) -> tuple[int, int, int]:
    """How many images train, validate and test."""
    images = training_images(data)
    splits = split(images, data)
    return len(splits.train), len(splits.validation), len(held_out_images(data).ids)


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "val", "test"),
        ("train", "valid", "test"),  # Roboflow
        ("Training", "Validation", "Testing"),
        ("TRAIN", "DEV", "HOLDOUT"),
        ("training_set", "val_set", "test_set"),
        ("train_images", "val_images", "test_images"),
        ("images_train", "images_dev", "images_held-out"),
        ("TrainSet", "ValSet", "TestSet"),
        ("traindata", "valdata", "testdata"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),  # Kaggle archives repeat the name
        ("pets-train-2017", "pets-valid-2017", "pets-test-2017"),
        ("d/d/trains", "d/d/vals", "d/d/tests"),
        ("training", "validation", "evaluation"),
    ],
)
def test_split_folders_of_common_exports_are_recognised(tmp_path: Path, folders: tuple[str, ...]) -> None:
    data = tree(tmp_path, *folders)

    assert counts(data) == (8, 8, 8)
    assert set(training_images(data).classes) == set(CLASSES)


def test_given_validation_validates_and_test_is_drawn_from_training(tmp_path: Path) -> None:
    data = tree(tmp_path, "train", "val", images=5)

    images = training_images(data)
    splits = split(images, data)

    assert counts(data) == (8, 10, 2)
    assert {images.ids[i].partition("/")[0] for i in splits.validation} == {"val"}
    assert {name.partition("/")[0] for name in held_out_images(data).ids} == {"train"}
    assert summary(images, splits)["validation_is_given"]


def test_given_validation_stays_whole_where_labels_or_images_are_left_out(tmp_path: Path) -> None:
    data = tree(tmp_path, "train", "val", "test")
    fewer = DataConfig(**{**vars(data), "label_fraction": 0.5, "skipped_images": ("train/train/cat/1.png",)})

    images = training_images(fewer)
    splits = split(images, fewer)

    assert sorted(images.ids[i] for i in splits.validation) == [f"val/{c}/{i}.png" for c in CLASSES for i in range(4)]
    assert "train/cat/1.png" not in images.ids
    assert len(splits.train) == 4


@pytest.mark.parametrize("names", [("airplane", "bus", "train"), ("cat", "freight_train", "test_tube"), ("1", "2")])
def test_classes_named_like_splits_are_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = tree(tmp_path, "", classes=names)

    assert training_images(data).classes == names


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train", "test", "more"), "test, train named as a split lies beside more"),
        (("seg_train", "seg_test", "seg_pred"), "beside seg_pred"),
        (("cat_train", "cat_test", "dog_train", "dog_test"), "named as a split lies beside"),
        (("train", "val", "validation"), "several folders for one split"),
        (("val", "test"), "no training split"),
        (("test",), "no training split"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), "the folder cat holds splits"),
    ],
)
def test_a_layout_that_is_in_doubt_is_refused(tmp_path: Path, folders: tuple[str, ...], said: str) -> None:
    data = tree(tmp_path, *folders)

    with pytest.raises(InputError, match=rf"{said}.*understood are one folder of images per class"):
        training_images(data)


@pytest.mark.parametrize(
    ("stray", "said"),
    [
        ("a.png", "holds images beside its folders, such as a.png"),
        ("test/a.png", "holds images and no class folders, so they cannot be scored"),
        ("test/cat/a.png", r"training and test split have different classes \(dog\)"),
        ("valid/cat/a.png", r"training and validation split have different classes \(dog\)"),
        ("train/a.png", "holds images outside class folders, such as a.png"),
    ],
)
def test_images_that_belong_to_no_class_are_refused(tmp_path: Path, stray: str, said: str) -> None:
    data = tree(tmp_path, "train")
    if "/" in stray:
        (tmp_path / "test").mkdir()
    picture(tmp_path / stray)

    with pytest.raises(InputError, match=said):
        counts(data)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("imagefolder:", "names no folder"),
        ("imagefolder:~nobody-here/x", "home directory"),
        ("imagefolder:{}/d.zip", "is a file; unpack it"),
        ("imagefolder:{}/cat", "holds images and no class folders"),
        ("imagefolder:{}/empty", "holds no class folders"),
        ("{}", "named imagefolder:"),
    ],
)
def test_what_is_no_folder_of_images_is_said(tmp_path: Path, named: str, said: str) -> None:
    tree(tmp_path, "", classes=("cat",))
    (tmp_path / "empty").mkdir()
    (tmp_path / "d.zip").write_bytes(b"PK")

    with pytest.raises(InputError, match=said):
        training_images(DataConfig(dataset=named.format(tmp_path), layouts="recognised"))


def test_what_tools_leave_behind_is_left_out_and_counted(tmp_path: Path) -> None:
    data = tree(tmp_path, "")
    for left in (".ipynb_checkpoints/0-checkpoint.png", "@eaDir/0.png", "cat/@eaDir/0.png/thumb.png", "cat/._0.png"):
        picture(tmp_path / left)
    for left in ("__MACOSX/cat/._0.png", "cat/.ipynb_checkpoints/0-checkpoint.png", "dog/.thumbnails/0.png"):
        picture(tmp_path / left)
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "cat" / "labels.csv").write_bytes(b"")

    found = recognise(data.dataset)

    assert [path.name for path in found.part("train").paths] == [f"{i}.png" for i in range(4)] * 2
    assert found.left_out == {"hidden or left by tools": 8, ".csv files": 1}


def test_images_are_what_torchvisions_imagefolder_takes_for_images(tmp_path: Path) -> None:
    data = tree(tmp_path, "")
    for number, suffix in enumerate(IMG_EXTENSIONS):
        (tmp_path / "cat" / f"more{number}{suffix.upper()}").touch()

    assert len(training_images(data).ids) + len(held_out_images(data).ids) == 8 + len(IMG_EXTENSIONS)


def test_links_are_followed_as_torchvision_does_and_loops_end(tmp_path: Path) -> None:
    tree(tmp_path / "store", "", classes=("dog", "more"))
    data = tree(tmp_path / "d", "", classes=("cat",))
    (tmp_path / "d" / "dog").symlink_to(tmp_path / "store" / "dog")
    (tmp_path / "d" / "cat" / "more").symlink_to(tmp_path / "store" / "more")
    (tmp_path / "d" / "cat" / "up").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "d" / "cat" / "itself").symlink_to(tmp_path / "d" / "cat" / "itself")

    found = recognise(data.dataset)

    assert np.bincount(found.part("train").labels).tolist() == [8, 4]
    assert [path.name for path in found.dangling] == ["gone.png", "itself"]
    assert found.left_out == {"links to a folder that they are in": 1}


@pytest.mark.parametrize("closed", ["", "cat", "cat/deeper"])
def test_a_folder_that_cannot_be_read_is_named(closed: str) -> None:
    # Pytest's own folders are closed to the other user, whom root must become to be refused anything.
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        data = tree(Path(root), "", "cat/deeper")
        (Path(root) / closed).chmod(0)
        own, other = os.geteuid(), os.geteuid() or 65534
        os.seteuid(other)
        try:
            with pytest.raises(InputError, match=rf"{Path(root) / closed} cannot be read \(Permission denied\)"):
                recognise(data.dataset)
        finally:
            os.seteuid(own)
            (Path(root) / closed).chmod(0o755)


def test_folders_without_end_are_refused(tmp_path: Path) -> None:
    data = tree(tmp_path, "")
    (tmp_path / "cat" / "/".join("d" * 200)).mkdir(parents=True)

    with pytest.raises(InputError, match="more than 100 folders deep"):
        training_images(data)


def test_studies_of_earlier_versions_list_what_they_listed(tmp_path: Path) -> None:
    recognised = tree(tmp_path, "train", "valid", "test")
    picture(tmp_path / "train" / "cat" / ".copies" / "0.png")
    recorded = DataConfig(dataset=recognised.dataset)

    assert counts(recorded) == (7, 2, 8)
    assert counts(recognised) == (8, 8, 8)
    assert "cat/.copies/0.png" in training_images(recorded).ids


JUNK = (".ipynb_checkpoints", "@eaDir", "__MACOSX", "._1.png", "Thumbs.db")
FILES = ("1.png", "2.JPG", "3.jpeg", "4.gif", "5.txt", "6", "zw\u00f6lf.webp", os.fsdecode(b"gar\xe7on.png"), *JUNK)
LINKS = ("..", ".", "cat", "../dog", "../../train/cat", "nowhere", "1.png", "../cat/1.png", "a-link")

files = st.dictionaries(st.sampled_from(FILES), st.sampled_from(("whole", "another", "broken", "empty")), max_size=4)
links = st.dictionaries(st.sampled_from(("a-link", "b.png", "dog")), st.sampled_from(LINKS).map(Path), max_size=1)
messes = st.one_of(st.just({}), st.just({}), st.just({}), st.just({}), files, links)
"""What may lie in any folder; mostly nothing."""


def folders(names: tuple[str, ...], inside: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Folders of some of these names, and what may lie beside them."""
    named = st.dictionaries(st.sampled_from(names), inside, min_size=1, max_size=3)
    return st.tuples(messes, named).map(lambda parts: {**parts[0], **parts[1]})


leaves = st.tuples(files, messes).map(lambda parts: {"0.png": "whole", "00.png": "another", **parts[0], **parts[1]})
class_folders = st.one_of(leaves, leaves, leaves, folders(("a", "train", "test", *JUNK[:3]), leaves), messes)
both = st.fixed_dictionaries({"cat": leaves, "dog": leaves})
classes = st.one_of(
    *(both, both), folders(("cat", "dog", "dog", "valid", "train", "annotations", *JUNK[:3]), class_folders)
)
splits = folders(("train", "Training", "val", "valid", "test", "x_train", "x_test", "annotations"), classes)
proper = st.fixed_dictionaries({"train": classes}, optional={"valid": classes, "test": classes})
trees = st.one_of(classes, splits, proper, proper, folders(("d", "train"), st.one_of(classes, proper)))
"""Folders as nested tables: text is a file's content, a path is a link's target."""


def write(folder: Path, table: dict[str, Any]) -> None:
    folder.mkdir()
    for name, content in table.items():
        path = folder / name
        if isinstance(content, dict):
            write(path, content)
        elif isinstance(content, Path):
            path.symlink_to(content)
        elif content in ("whole", "another"):
            Image.new("RGB", (4, 4), "red" if content == "whole" else "blue").save(path, "PNG")
        else:
            path.write_bytes(b"\x89PNG" if content == "broken" else b"")


KINDS = {
    **dict.fromkeys(("train", "Training", "x_train"), "train"),
    **dict.fromkeys(("val", "valid"), "validation"),
    **dict.fromkeys(("test", "x_test"), "test"),
}


def entries(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """What counts in a folder: no junk, no link that leads nowhere or back."""
    for path in sorted(folder.iterdir()):
        leads_back = path.is_dir() and path.resolve() in (folder.resolve(), *above)
        if path.name not in JUNK and path.exists() and not leads_back:
            yield path


def images_in(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    for path in entries(folder, above):
        if path.is_dir():
            yield from images_in(path, (*above, folder.resolve()))
        elif path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"):
            yield path


def directly(folder: Path, above: tuple[Path, ...]) -> tuple[list[Path], list[Path]]:
    """The folders and the images that lie in a folder."""
    inside = list(entries(folder, above))
    return [path for path in inside if path.is_dir()], [path for path in images_in(folder, above) if path in inside]


def entered(folder: Path, above: tuple[Path, ...], kind: str) -> tuple[Path, tuple[Path, ...]]:
    folders, images = directly(folder, above)
    if len(folders) == 1 and not images and KINDS.get(folders[0].name, kind) == kind:
        below = (*above, folder.resolve())
        inner, stray = directly(folders[0], below)
        if inner and not stray:
            return entered(folders[0], below, kind)
    return folder, above


def specified(root: Path) -> dict[str, dict[str, list[Path]]] | None:
    """The images by split and class that a folder stands for, in the plainest words; None: it is refused."""
    root, above = entered(root, (), "train")
    folders, stray = directly(root, above)
    above = (*above, root.resolve())
    if stray or not folders:
        return None
    plain = [path for path in folders if path.name in KINDS and not path.name.startswith("x_")]
    paired = [path for path in folders if path.name.startswith("x_")]
    named = plain + (paired if len(paired) == 2 else [])
    others = [path for path in folders if path not in named and any(images_in(path, above))]
    parts: dict[str, tuple[Path, tuple[Path, ...]]] = {"train": (root, above[:-1])}
    lone = [KINDS[path.name] for path in named] in (["train"], ["validation"]) and others
    if lone and directly(named[0], above)[1] and not directly(named[0], above)[0]:
        named = []
    if named:
        kinds = [KINDS[path.name] for path in named]
        if others or len(set(kinds)) < len(kinds) or "train" not in kinds:
            return None
        parts = {kind: entered(path, above, kind) for kind, path in zip(kinds, named, strict=True)}
    elif any(len({KINDS[one.name] for one in directly(path, above)[0] if one.name in KINDS}) > 1 for path in folders):
        return None
    listing = {}
    for kind, (folder, way) in parts.items():
        classes, stray = directly(folder, way)
        below = (*way, folder.resolve())
        listing[kind] = {path.name: list(images_in(path, below)) for path in classes}
        if stray or not classes or not all(listing[kind].values()):
            return None
    return listing


def listed(dataset: str) -> dict[str, dict[str, list[Path]]] | None:
    try:
        found = recognise(dataset)
        parts = {name: found.part(name) for name in found.splits}
    except InputError:
        return None
    return {
        kind: {
            name: [path for path, label in zip(part.paths, part.labels, strict=True) if label == number]
            for number, name in enumerate(part.classes)
        }
        for kind, part in parts.items()
    }


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=trees)
def test_any_tree_is_listed_as_specified_or_refused(table: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "drawn"
    shutil.rmtree(root, ignore_errors=True)
    write(root, table)
    data = DataConfig(dataset=f"imagefolder:{root}", layouts="recognised", exif="turn")
    options = RunOptions(trials=1, data_dir=str(tmp_path / "data"))

    assert listed(data.dataset) == specified(root)
    for changed in (False, True):
        # Whatever else is raised fails the test.
        with suppress(InputError, UsageError):
            known = deduplicated(data, options) if changed else data
            known = readable(identified(known, options), SMALL, options, skip_bad=True)
            divided = split(training_images(known), known)
            assert not set(divided.train) & set(divided.validation)
