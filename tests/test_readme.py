"""Every command of the README runs, on a smaller scale where it would take hours, and ends as the README says."""

import dataclasses
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from torchvision.models import get_model

import search_spaces
from hpo.paths import study_names
from tests import openmmlab
from trainables.config import ModelConfig
from trainables.networks.identity import resolve
from trainables.networks.published import PUBLISHED, SIMCLR_DEFAULT

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands_of(page: str) -> list[str]:
    """Return what a page's terminal blocks type."""
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


COMMANDS = commands_of(README)
SMALL = "[parameters]\nlearning_rate = 1e-3\nbatch_size = 8\nepochs = 1\nfreeze_mode = 'backbone'\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photographs: list[Path]) -> Path:
    """A folder with what a first run would download: pets in their layout, and the encoder's file."""
    root = tmp_path_factory.mktemp("readme")
    pets = root / "data" / "oxford-iiit-pet"
    (pets / "images").mkdir(parents=True)
    (pets / "annotations").mkdir()
    for part, numbers in (("trainval", range(1, 7)), ("test", range(7, 10))):
        rows = [(breed, label, number) for label, breed in enumerate(("Abyssinian", "pug"), 1) for number in numbers]
        for breed, label, number in rows:
            shutil.copy(photographs[label - 1], pets / "images" / f"{breed}_{number}.jpg")
        text = "".join(f"{breed}_{number} {label} 1 1\n" for breed, label, number in rows)
        (pets / "annotations" / f"{part}.txt").write_text(text, encoding="utf-8")
    fetch_encoder(root)
    (root / "small.toml").write_text(SMALL, encoding="utf-8")
    run(
        root,
        "hpo run --backbone tests.tiny_backbone:tiny --dataset digits --image-size 16 --study demo --trials 3"
        " --space small.toml",
    )
    return root


def fetch_encoder(root: Path) -> None:
    """Publish a file in the layout of the default weights on a server, and fetch it as a first run does."""
    encoder = get_model("resnet50", weights=None).state_dict()
    published = PUBLISHED[SIMCLR_DEFAULT]
    (root / "published").mkdir()
    digest = openmmlab.save(
        {key: value for key, value in encoder.items() if not key.startswith("fc.")},
        root / "published" / published.filename,
    )
    with openmmlab.served(root / "published") as address, pytest.MonkeyPatch.context() as patch:
        here = dataclasses.replace(published, url=f"{address}/{published.filename}", sha256_prefix=digest[:8])
        patch.setitem(PUBLISHED, SIMCLR_DEFAULT, here)
        found = resolve(ModelConfig(backbone="simclr"), str(root / "data"))
    shutil.rmtree(root / "published")
    assert found.weights_sha256 == digest


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HPO_DATA_DIR": str(folder / "data")}


def run(folder: Path, command: str, *extra: str, **more: str) -> str:
    arguments = [*shlex.split(command), *extra]
    own = environment(folder) | more
    done = subprocess.run(arguments, cwd=folder, env=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_command_of_the_readme_is_known_here() -> None:
    kinds = {" ".join(command.split()[:2]) for command in COMMANDS}

    assert kinds == {
        *(f"make {target}" for target in ("demo", "test")),
        *(f"hpo {name}" for name in ("run", "resume", "status", "export", "retrain", "report", "dashboard", "delete")),
        "hpo predict",
        *(f"hpo {name}" for name in ("cluster", "doctor")),
    }


def test_the_studys_commands_run_in_the_readmes_order(folder: Path) -> None:
    for command in COMMANDS:
        if ("demo" not in command and command != "hpo status") or command.startswith(("make ", "hpo dashboard")):
            continue
        target = command.replace("--trials 14", "--trials 4").replace("--seeds 3", "--seeds 2")
        if command.startswith("hpo delete"):
            watch_dashboard(folder)
        out = run(folder, target)

        expected = {
            "resume": "study demo: 4 COMPLETE",
            "status": "best validation",
            "retrain": "over 2 seeds: mean 0.",
            "report": "studies/demo/report/report.html",
            "export --model": "model.onnx: probabilities differ from the model's by at most",
        }
        verb = "export --model" if "--model" in command else command.split()[1]
        assert expected.get(verb, "") in out
        if "json" in command:
            assert out.count('"number"') == 3
    assert "[[enqueue]]" in (folder / "best.toml").read_text("utf-8") or "enqueue = [" in (
        folder / "best.toml"
    ).read_text("utf-8")
    assert not (folder / "studies" / "demo").exists()


def watch_dashboard(folder: Path, study: str = "demo") -> None:
    """Start the README's dashboard command on another port and ask it for its studies."""
    process = subprocess.Popen(
        ["hpo", "dashboard", study, "--port", "18080"],
        cwd=folder,
        env=environment(folder),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        answer = ""
        deadline = time.monotonic() + 60
        while not answer and time.monotonic() < deadline:
            try:
                answer = urllib.request.urlopen("http://127.0.0.1:18080/api/studies", timeout=5).read().decode()
            except OSError:
                time.sleep(0.3)
        assert f'"study_name":"{study}"' in answer.replace(": ", ":")
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_the_first_study_of_the_readme_runs_on_pets_and_its_model_predicts(
    folder: Path, photographs: list[Path]
) -> None:
    command, then = (command for command in COMMANDS if "simclr" in command)

    out = run(folder, command.replace("--trials 60", "--trials 1"), "--image-size", "32", "--space", "small.toml")

    assert "study simclr-pets: 1 COMPLETE" in out
    assert "held-out test accuracy" in out
    assert (folder / "studies" / "simclr-pets" / "final" / "confusion_matrix.png").exists()

    (folder / "holiday").mkdir()
    for photograph, name in zip(photographs, ("cat.jpg", "holiday/1.jpg"), strict=True):
        shutil.copy(photograph, folder / name)
    said = run(folder, then).splitlines()
    assert [line.partition(": ")[0] for line in said] == ["cat.jpg", "holiday/1.jpg"]
    assert all(line.split()[1] in ("Abyssinian", "Pug", "pug") for line in said)


@pytest.mark.slow
def test_the_commands_of_everyday_tasks_run(tmp_path: Path, photo_folder: Path) -> None:
    for file in photo_folder.glob("*/*.jpg"):
        part = photo_folder / ("train", "train", "val", "test")[int(file.stem) // 2] / file.parent.name
        part.mkdir(parents=True, exist_ok=True)
        file.rename(part / file.name)
    for folder in ("china", "flower"):
        (photo_folder / folder).rmdir()
    (tmp_path / "small.toml").write_text(SMALL, encoding="utf-8")
    tiny, tinier = names = ["tests.tiny_backbone:tiny", "tests.tiny_backbone:tinier"]
    studies = study_names(names, f"imagefolder:{photo_folder}", None)
    smaller = {
        "--backbone resnet50 --backbone vit --backbone swin": f"--backbone {tiny} --backbone {tinier}",
        "--backbone resnet50": f"--backbone {tiny}",
        "--trials 20": "--trials 1 --image-size 16 --space small.toml",
        "resnet50-photos": studies[tiny],
    }
    printed, elsewhere = {}, []
    page = (ROOT / "docs" / "everyday.md").read_text(encoding="utf-8")
    for command in (line for line in commands_of(page) if line.startswith("hpo ")):
        scaled = command
        for asked, small in smaller.items():
            scaled = scaled.replace(asked, small)
        if command.startswith("hpo dashboard"):
            watch_dashboard(tmp_path, studies[tiny])
        elif "cluster" in command or "--address" in command:
            elsewhere.append(command)
        else:
            printed[command.split()[1], command.count("--backbone")] = run(tmp_path, scaled)

    # The slow tests: the first and the last are below, of the README; the second is tests/e2e/test_two_hosts.py.
    assert [command.split()[1:3] for command in elsewhere] == [
        ["cluster", "head"],
        ["cluster", "join"],
        ["run", "--backbone"],
    ]
    assert "held-out test accuracy" in printed["run", 1]
    assert all(name in printed["run", 3] for name in names)
    assert f"study {studies[tiny]}: 1 COMPLETE" in printed["resume", 0]
    assert search_spaces.load(tmp_path / "best.toml", search_spaces.builtin("resnet18", "default")).enqueue


@pytest.mark.slow
def test_the_commands_of_two_machines_run_on_one(folder: Path, tmp_path: Path) -> None:
    (block,) = (
        block for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) if "hpo cluster head" in block
    )
    tiny = " ".join(f"--backbone tests.tiny_backbone:{name}" for name in ("tiny", "tinier"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    smaller = {
        "cluster head": f"cluster head --node-ip 127.0.0.1 --port {port} --cpus 2 --gpus 0",
        # Other tests' clusters may run beside.
        "cluster stop": f"cluster stop --address 127.0.0.1:{port}",
        "--backbone all --trials 60": f"{tiny} --dataset digits --image-size 16 --space small.toml --trials 1"
        " --no-retrain",
    }
    printed = {}
    try:
        for line in block.splitlines():
            command = line.removeprefix("$ ")
            for asked, scaled in smaller.items():
                command = command.replace(asked, scaled)
            out = run(folder, command, HOME=str(tmp_path), RAY_ADDRESS=f"127.0.0.1:{port}")
            printed[line.removeprefix("$ ")] = out
    finally:
        run(folder, f"hpo cluster stop --address 127.0.0.1:{port}")

    assert f"hpo cluster join 127.0.0.1:{port}" in printed["hpo cluster head"]
    assert "127.0.0.1  yes" in printed["hpo cluster status"]
    assert "pass     token" in printed["hpo doctor --address auto"]
    table = printed["hpo run --backbone all --trials 60 --address auto"].splitlines()[-2:]
    assert {line.split()[1] for line in table} == {f"tests.tiny_backbone:{name}" for name in ("tiny", "tinier")}
    assert "stopped this machine's part of the cluster" in printed["hpo cluster stop"]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_make_targets_exist_and_set_up_their_own(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 0, done.stderr
    assert "-m venv .venv" in done.stdout
    assert "pip install" in done.stdout


def test_the_search_space_of_the_readme_loads(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "space.toml"
    path.write_text(text, encoding="utf-8")

    space = search_spaces.load(path, search_spaces.builtin("resnet18", "default"))

    assert len(space.parameters["learning_rate"]) == 2


def test_the_documented_way_to_load_a_model_is_the_layout_that_is_written() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "backbones.md").read_text("utf-8"), re.DOTALL)

    from trainables.networks.backbones import build

    trained = build(ModelConfig(backbone="resnet18", weights="none"), 10, data_dir=None, seed=0).model.state_dict()
    scope: dict[str, object] = {}
    exec(code.replace('load_file("studies/demo/final/model.safetensors")', "trained"), {"trained": trained}, scope)

    assert "model" in scope
