"""Weights are fetched once and whole, mapped exactly, and never run code."""

import gzip
import http.server
import pickle
import re
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model

from tests import openmmlab
from trainables.config import ModelConfig
from trainables.errors import InputError
from trainables.networks import backbones, published
from trainables.networks.fetch import fetch
from trainables.networks.published import PUBLISHED, PublishedWeights
from trainables.networks.weights import load_file


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; counts what is asked for, and cuts files short that are named so."""

    asked: list[str]

    def __init__(self, *arguments: Any, asked: list[str], **keywords: Any) -> None:
        self.asked = asked
        super().__init__(*arguments, **keywords)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "truncated" in self.path:
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            return
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A real HTTP server: its address, its folder, and what was asked of it."""
    folder, asked = tmp_path / "served", list[str]()
    folder.mkdir()
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder), asked=asked))
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}", folder, asked
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture(scope="module")
def encoder() -> dict[str, Tensor]:
    """A ResNet-50's random weights without its final layer."""
    state = get_model("resnet50", weights=None).state_dict()
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def sthalles(encoder: dict[str, Tensor]) -> dict[str, Any]:
    projection = {f"backbone.fc.{i}.{kind}": torch.zeros(2) for i in (0, 2) for kind in ("weight", "bias")}
    state = {f"backbone.{key}": value for key, value in encoder.items()} | projection
    return {"epoch": 40, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}


def publish(monkeypatch: pytest.MonkeyPatch, name: str, url: str, digest: str | None, member: str | None) -> None:
    known = PUBLISHED[name]
    file = url.rpartition("/")[2]
    entry = PublishedWeights(name, "resnet50", url, file, digest, known.geometry, known.licence, member)
    monkeypatch.setitem(PUBLISHED, name, entry)


def test_the_default_simclr_encoder_is_fetched_checked_and_mapped(
    server: tuple[str, Path, list[str]], tmp_path: Path, encoder: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder, asked = server
    digest = openmmlab.save(encoder, folder / "simclr.pth")[:8]
    publish(monkeypatch, "simclr-imagenet", f"{address}/simclr.pth", digest, None)
    config = ModelConfig(backbone="simclr", image_size=32)

    network = backbones.build(config, 3, data_dir=str(tmp_path), seed=0)
    backbones.build(config, 3, data_dir=str(tmp_path), seed=0)

    state = network.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in encoder.items())
    assert asked == ["/simclr.pth"]


def test_the_papers_own_encoder_is_taken_out_of_its_zip(
    server: tuple[str, Path, list[str]], tmp_path: Path, encoder: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder, _ = server
    torch.save(sthalles(encoder), folder / "checkpoint_0040.pth.tar")
    with zipfile.ZipFile(folder / "stl10.zip", "w") as archive:
        archive.write(folder / "checkpoint_0040.pth.tar", "../../resnet50/checkpoint_0040.pth.tar")
    publish(monkeypatch, "simclr-stl10", f"{address}/stl10.zip", None, "checkpoint_0040.pth.tar")
    config = ModelConfig(backbone="simclr", weights="simclr-stl10", image_size=32)

    network = backbones.build(config, 3, data_dir=str(tmp_path / "data"), seed=0)

    state = network.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in encoder.items())
    assert not (tmp_path / "resnet50").exists()


@pytest.mark.parametrize(
    ("file", "digest", "said"),
    [
        ("truncated.pth", None, "was cut short"),
        ("wrong.pth", "00000000", "gave another file: its SHA-256 starts with"),
        ("absent.pth", None, "cannot be fetched (HTTP Error 404"),
    ],
)
def test_a_bad_download_is_said_and_leaves_nothing(
    server: tuple[str, Path, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    digest: str | None,
    said: str,
) -> None:
    address, folder, _ = server
    for name in ("truncated.pth", "wrong.pth"):
        (folder / name).write_bytes(b"x" * 3_000_000)
    publish(monkeypatch, "simclr-imagenet", f"{address}/{file}", digest, None)
    data = tmp_path / "data"

    with pytest.raises(InputError) as caught:
        backbones.build(ModelConfig(backbone="simclr"), 3, data_dir=str(data), seed=0)

    assert said in str(caught.value)
    assert f"Bring the file yourself: to {data / 'weights' / file}, or anywhere with --weights" in str(caught.value)
    assert [path.name for path in (data / "weights").iterdir() if path.suffix != ".lock"] == []


def test_many_processes_that_ask_at_once_download_once(server: tuple[str, Path, list[str]], tmp_path: Path) -> None:
    address, folder, asked = server
    (folder / "big.bin").write_bytes(b"x" * 20_000_000)

    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(f"{address}/big.bin", tmp_path / "big.bin", None), range(4)))

    assert {path.stat().st_size for path in paths} == {20_000_000}
    assert asked == ["/big.bin"]


def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    for name, write in (("bomb.pth", torch.save), ("bomb.pt", lambda bomb, path: path.write_bytes(pickle.dumps(bomb)))):
        write({"state_dict": Bomb()}, tmp_path / name)

        with pytest.raises(InputError, match=r"holds no state dict|that torch.save did not write"):
            load_file(tmp_path / name)

    assert not (tmp_path / "exploded").exists()


def test_a_file_of_another_architecture_names_its_keys(tmp_path: Path, encoder: dict[str, Tensor]) -> None:
    path = tmp_path / "resnet50.pth"
    torch.save(encoder, path)

    with pytest.raises(InputError) as caught:
        backbones.build(ModelConfig(backbone="resnet18", weights=str(path)), 3, data_dir=None, seed=0)

    message = str(caught.value)
    assert "unexpected: layer1.0.conv3.weight, layer1.0.bn3.weight" in message
    assert "wrongly shaped: layer1.0.conv1.weight (64, 64, 1, 1) instead of (64, 64, 3, 3)" in message


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_one_key_too_few_or_too_many_is_no_fit(tmp_path: Path, encoder: dict[str, Tensor], change: str) -> None:
    state = dict(encoder)
    if change == "missing":
        del state["layer3.2.conv1.weight"]
    else:
        state["layer3.9.conv1.weight"] = torch.zeros(1)
    path = tmp_path / "state.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)

    with pytest.raises(InputError, match=rf"1 {change}: layer3\.\d\.conv1\.weight"):
        backbones.build(ModelConfig(backbone="resnet50", weights=str(path)), 3, data_dir=None, seed=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty; bring or download it again"),
        (b"not weights", "damaged or no weights: it begins with b'not weights'"),
        (bytes(4096), "it begins with zeros"),
        (b"\x80\x04.", "damaged or was cut short"),
        (b"PK\x03\x04cut short", "damaged or was cut short"),
        (b"\x10\0\0\0\0\0\0\0{not a header   ", "damaged or was cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "`git lfs pull` fetches them"),
        (b"\n<!DOCTYPE html><html>Sign in", "a web page, not weights"),
        (b'{"error": "quota"}', "a text in JSON"),
        (gzip.compress(b"weights", mtime=0), "a gzip archive; unpack it"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes"),
        (
            pickle.dumps({"conv1.weight": [1.0]}),
            "that torch.save did not write, which holds conv1.weight (list)",
        ),
    ],
)
def test_a_file_that_is_no_checkpoint_is_said_whatever_its_name(tmp_path: Path, content: bytes, said: str) -> None:
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(content)

        with pytest.raises(InputError, match=re.escape(said)):
            load_file(path)


def test_a_file_without_a_state_dict_is_said(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")

    with pytest.raises(InputError, match=r"holds no state dict.*it holds epoch \(int\)\.$"):
        load_file(tmp_path / "numbers.pth")


def test_a_state_dict_under_any_key_is_taken_where_it_is_the_only_one(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "nets\n": {"last": {"conv1.weight": torch.ones(1)}}}, tmp_path / "net.pth")

    assert list(load_file(tmp_path / "net.pth")) == ["conv1.weight"]


@pytest.mark.parametrize("prefix", ["net.", "other"])
def test_a_file_without_any_name_of_the_backbone_says_what_it_holds(tmp_path: Path, prefix: str) -> None:
    state = get_model("resnet18", weights=None).state_dict()
    path = tmp_path / "state.pth"
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, path)

    with pytest.raises(InputError) as caught:
        backbones.build(ModelConfig(backbone="resnet18", weights=str(path)), 3, data_dir=None, seed=0)

    message = str(caught.value)
    assert f"none of its 122 tensors has a name of it; they are {prefix}conv1.weight, " in message
    assert "where conv1.weight, bn1.weight" in message
    assert ("without the prefix" in message) == prefix.endswith(".")


@pytest.mark.parametrize("name", ["weights.bin", "weights.PTH", "weights.torch", "weights.v2.safetensors"])
def test_a_file_of_any_suffix_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / name)
    torch.save({}, tmp_path / "weights")
    monkeypatch.chdir(tmp_path)

    found = published.find_weights("resnet18", "resnet18", name, None)

    assert found.path == tmp_path / name
    with pytest.raises(InputError, match=r"\./weights names the file here"):
        published.find_weights("resnet18", "resnet18", "weights", None)


def test_a_vits_position_embeddings_are_interpolated(tmp_path: Path) -> None:
    state = get_model("vit_b_32", weights=None).state_dict()
    path = tmp_path / "vit.pth"
    torch.save(state, path)

    network = backbones.build(ModelConfig(backbone="vit", weights=str(path), image_size=96), 3, data_dir=None, seed=0)

    positions = network.model.state_dict()["encoder.pos_embedding"]
    assert positions.shape == (1, 1 + 9, 768)
    assert torch.equal(positions[:, 0], state["encoder.pos_embedding"][:, 0])


def test_the_published_addresses_carry_what_they_promise() -> None:
    assert published.SIMCLR_DEFAULT in PUBLISHED
    for entry in PUBLISHED.values():
        assert entry.url.startswith("https://")
        assert entry.sha256_prefix is None or f"-{entry.sha256_prefix}." in entry.url
