"""What a folder of images holds: its splits, classes and images, and what is left out, found without opening a file."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from trainables.config import DataConfig
from trainables.errors import InputError
from trainables.vision import IMG_EXTENSIONS

SplitName = Literal["train", "validation", "test"]

_WORDS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout", "eval", "evaluation"), "test"),
}
"""The words for a split in the exports of common tools: Roboflow's ``train``, ``valid``, ``test``, Kaggle's
``Training``, ``Testing`` and ``training_set``, ``test_set``, ImageNet's ``val``. ``evaluation`` alone may mean either;
as test it is neither learned from nor selected by."""
_DECORATION = re.compile(r"(data)?sets?|data|images?|imgs?|pictures?|photos?|splits?|folders?")
"""What may follow or precede the word, joined or as a word of its own, and says nothing."""
_JUNK = re.compile(
    r"\..*|@eadir|@tmp|@recycle|@recently-snapshot|@__thumb|#recycle|#snapshot|~snapshot|__macosx|__pycache__"
    r"|\$recycle\.bin|system volume information|lost\+found|(eh)?thumbs\.db|desktop\.ini"
)
"""What tools leave behind, in lower case: hidden files and folders (Jupyter's checkpoints, thumbnails, macOS's
``._*``), a NAS's ``@eaDir`` and ``#recycle``, an archive's ``__MACOSX``, and system folders."""
_DEEPEST = 100
_LAYOUTS = (
    "; understood are one folder of images per class, or folders named train, test and validation (all but train may be"
    " missing) that hold the same class folders and no others (docs/data.md)"
)


@dataclass
class Folder:
    """A folder as it was found, without what is left out."""

    path: Path
    folders: dict[str, "Folder"] = field(default_factory=dict)
    """By name, sorted."""
    images: list[Path] = field(default_factory=list)

    def below(self) -> Iterator[Path]:
        """Yield all images, also those of folders below."""
        yield from self.images
        for folder in self.folders.values():
            yield from folder.below()


@dataclass(frozen=True)
class Part:
    """The class folders of one split."""

    folder: Path
    classes: tuple[str, ...]
    """The folders' names, sorted."""
    paths: tuple[Path, ...]
    """The images, by class and then by path."""
    labels: tuple[int, ...]
    """For each image the index of its class."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images whose layout was recognised."""

    dataset: str
    splits: Mapping[SplitName, Folder]
    """The folder of each split that there is; of a folder without splits, itself as ``train``."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many files and folders are no images of a class, by what they are."""
    dangling: tuple[Path, ...] = ()
    """Links without a target, where an image or a folder would be."""

    def part(self, name: SplitName) -> Part:
        """Return the images of a split.

        Raises:
            InputError: It has no class folders, images beside them, or a class without images.
        """
        folder = self.splits[name]
        if name == "test" and folder.images and not folder.folders:
            raise InputError(
                f"--dataset {self.dataset}: {folder.path} holds images and no class folders, so they cannot be scored;"
                f" sort them into class folders, or name {self.splits['train'].path} to hold out a share of it."
            )
        return _part(self.dataset, folder)


def folder_of(dataset: str) -> Path:
    """Return the folder that ``imagefolder:DIR`` names.

    Raises:
        InputError: It names none, or there is none.
    """
    named = dataset.partition(":")[2]
    if not named:
        raise InputError("--dataset imagefolder: names no folder; write imagefolder:DIR.")
    try:
        folder = Path(named).expanduser()
        folder.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"--dataset {dataset}: there is no folder {folder}.") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"--dataset {dataset}: {_reason(error)}.") from error
    if not folder.is_dir():
        raise InputError(f"--dataset {dataset}: {folder} is a file; unpack it, and name the folder.")
    return folder


def listed(data: DataConfig) -> ImageFolder:
    """Find the splits and images of the image folder that `data` names, by its layouts.

    Raises:
        InputError: The folder cannot be used.
    """
    return recognise(data.dataset) if data.layouts == "recognised" else by_fixed_names(data.dataset)


def recognise(dataset: str) -> ImageFolder:
    """Find the splits of ``imagefolder:DIR``: a class folder each, or split folders that hold them.

    Folders that hold a single folder and no images are entered. Links are followed, as torchvision follows them.

    Raises:
        InputError: There is no such folder, a folder cannot be read, or the layout is not one that is understood.
    """
    folder = folder_of(dataset)
    left_out, dangling = Counter[str](), list[Path]()
    root = _entered(_scan(dataset, folder, left_out, dangling, {}), "train")
    if root.images:
        beside = "beside its folders" if root.folders else "and no class folders"
        raise _refusal(dataset, f"{root.path} holds images {beside}, such as {root.images[0].name}")
    named = _splits(dataset, root)
    if named is None:
        return ImageFolder(dataset, {"train": root}, left_out, tuple(dangling))
    if len(named) < len(root.folders):
        left_out["folders without images"] += len(root.folders) - len(named)
    return ImageFolder(dataset, {name: _entered(one, name) for name, one in named.items()}, left_out, tuple(dangling))


def by_fixed_names(dataset: str) -> ImageFolder:
    """Find the splits and images of ``imagefolder:DIR`` as hpo 0.2.0 and before did, for the studies that began so.

    Splits are ``train`` and ``test``, by these very names; linked folders are left out, hidden ones in a class are not.

    Raises:
        InputError: There is no such folder.
    """
    folder = folder_of(dataset)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return ImageFolder(dataset, {"train": _listed_fixed(folder / "train"), "test": _listed_fixed(folder / "test")})
    return ImageFolder(dataset, {"train": _listed_fixed(folder)})


def _listed_fixed(path: Path) -> Folder:
    folder = Folder(path)
    for name in sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "."):
        images = (
            one for one in (path / name).rglob("*") if _is_image(one.name) and one.name[0] != "." and one.is_file()
        )
        folder.folders[name] = Folder(path / name, images=sorted(images))
    return folder


def readable_name(name: str) -> str:
    """Return a file's name as text that can be stored and printed: bytes that are not UTF-8 become ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _part(dataset: str, folder: Folder) -> Part:
    if folder.images:
        raise _refusal(dataset, f"{folder.path} holds images outside class folders, such as {folder.images[0].name}")
    if not folder.folders:
        raise _refusal(dataset, f"{folder.path} holds no class folders (one folder of images per class)")
    by_class = {name: sorted(one.below()) if one.folders else one.images for name, one in folder.folders.items()}
    for name, images in by_class.items():
        if not images:
            raise InputError(f"--dataset {dataset}: the class folder {folder.path / name} holds no image.")
    return Part(
        folder.path,
        tuple(map(readable_name, by_class)),
        tuple(path for images in by_class.values() for path in images),
        tuple(label for label, images in enumerate(by_class.values()) for _ in images),
    )


def _scan(
    dataset: str, path: Path, left_out: Counter[str], dangling: list[Path], above: Mapping[tuple[int, int], Path]
) -> Folder:
    """Read a folder and those below it; `above` are the folders on the way to it, by device and inode."""
    folder = Folder(path)
    if len(above) > _DEEPEST:
        raise InputError(f"--dataset {dataset}: {path} lies more than {_DEEPEST} folders deep; move or remove it.")
    try:
        status = path.stat()
        above = {**above, (status.st_dev, status.st_ino): path}
        with os.scandir(path) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            kind = _kind(entry)
            if kind == "folder":
                target = entry.stat()
                if (target.st_dev, target.st_ino) in above:
                    left_out["links to a folder that they are in"] += 1
                else:
                    folder.folders[entry.name] = _scan(dataset, path / entry.name, left_out, dangling, above)
            elif kind == "image":
                folder.images.append(path / entry.name)
            elif kind == "dangling":
                dangling.append(path / entry.name)
            else:
                left_out[kind] += 1
    except OSError as error:
        raise InputError(f"--dataset {dataset}: {_reason(error)}; make the folder readable or remove it.") from error
    return folder


def _kind(entry: os.DirEntry[str]) -> str:
    """Return ``folder``, ``image``, ``dangling``, or what else an entry is."""
    if _JUNK.fullmatch(entry.name.lower()):
        return "hidden or left by tools"
    leads_nowhere = entry.is_symlink() and not _leads_somewhere(entry)
    if not leads_nowhere and entry.is_dir():
        return "folder"
    if not leads_nowhere and not entry.is_file():
        return "pipes, sockets and devices"
    if _is_image(entry.name):
        return "dangling" if leads_nowhere else "image"
    suffix = PurePath(entry.name).suffix
    if leads_nowhere and not suffix:
        return "dangling"
    return f"{suffix.lower()} files" if suffix else "files without a suffix"


def _leads_somewhere(link: os.DirEntry[str]) -> bool:
    try:
        return bool(link.stat())
    except OSError:
        return False


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS)


def _entered(folder: Folder, split: SplitName) -> Folder:
    """Return the innermost of folders that each hold one folder of folders, unless it names another split."""
    while not folder.images and len(folder.folders) == 1:
        (name, inner), *_ = folder.folders.items()
        if not inner.folders or inner.images or (_split_name(name) or (split,))[0] != split:
            break
        folder = inner
    return folder


def _splits(dataset: str, root: Folder) -> dict[SplitName, Folder] | None:
    """Return the folders of the splits; None: the folders are classes.

    Folders are splits where their names are those of splits, or are equal but for the word of a split.
    """
    families: dict[tuple[str, ...], list[tuple[SplitName, str]]] = {}
    for name in root.folders:
        if (split := _split_name(name)) is not None:
            families.setdefault(split[1], []).append((split[0], name))
    suspected = [members for rest, members in families.items() if not rest or len({kind for kind, _ in members}) > 1]
    if not suspected:
        _refuse_splits_below(dataset, root)
        return None
    members = suspected[0]
    kinds = [kind for kind, _ in members]
    names = {name for _, name in members}
    others = [name for name, one in root.folders.items() if name not in names and any(one.below())]
    if others and len(suspected) == 1 and kinds in (["train"], ["validation"]) and _is_flat(root, names):
        return None  # Classes, such as trains among other vehicles; a flat test folder would be unlabelled images.
    if others:
        raise _refusal(dataset, f"{_listed(names)} named as a split lies beside {_listed(others)}", root)
    if len(set(kinds)) < len(kinds):
        raise _refusal(dataset, f"{_listed(names)} are several folders for one split", root)
    if "train" not in kinds:
        raise _refusal(dataset, f"there is {_listed(names)} and no training split", root)
    return {kind: root.folders[name] for kind, name in members}


def _is_flat(root: Folder, names: Iterable[str]) -> bool:
    return all(root.folders[name].images and not root.folders[name].folders for name in names)


def _refuse_splits_below(dataset: str, root: Folder) -> None:
    """Refuse splits inside of class folders, whose images would be mixed."""
    for name, folder in root.folders.items():
        kinds = {split[0] for below in folder.folders if (split := _split_name(below)) is not None}
        if len(kinds) > 1:
            raise _refusal(dataset, f"the folder {name} holds splits ({_listed(folder.folders)})", root)


def _split_name(name: str) -> tuple[SplitName, tuple[str, ...]] | None:
    """Return the split that a folder's name says, and the words besides it; None: it says none, or several."""
    spaced = re.sub(r"(?i)(hold|held)[\W_]*out", "holdout", name)
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+", spaced)]
    known = [(index, split) for index, word in enumerate(words) if (split := _split_word(word)) is not None]
    if len(known) != 1:
        return None
    (at, split), *_ = known
    rest = tuple(word for index, word in enumerate(words) if index != at and not _DECORATION.fullmatch(word))
    return split, rest


def _split_word(word: str) -> SplitName | None:
    """Return the split that a word means, in singular or plural, alone or joined as in ``trainset``."""
    for stem, split in _WORDS.items():
        if word.startswith(stem) and (word[len(stem) :] in ("", "s") or _DECORATION.fullmatch(word[len(stem) :])):
            return split
    return None


def _refusal(dataset: str, reason: str, root: Folder | None = None) -> InputError:
    return InputError(f"--dataset {dataset}: {'' if root is None else f'in {root.path}, '}{reason}{_LAYOUTS}.")


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read ({error.strerror})"
    return str(error)
