"""What would stop a study on this machine or on a cluster, found before it does, each with its fix."""

import dataclasses
import importlib.metadata
import os
import shutil
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from ray.exceptions import RayError
from sqlalchemy import URL, NullPool, create_engine, inspect, text

from hpo.addresses import shown, sqlite_file
from hpo.errors import HpoError, UsageError
from hpo.ledger.storage import opening
from hpo.machines import nodes
from hpo.machines.checkpoints import try_place
from hpo.machines.gpus import cards
from hpo.machines.processes import live_nodes
from hpo.machines.ray_start import little_shared_memory, obstacles, ray_folder
from hpo.machines.session import ray_session
from hpo.machines.tokens import token_path
from trainables.config import data_root

Verdict = Literal["pass", "warn", "fail"]

ORDER: tuple[Verdict, ...] = ("pass", "warn", "fail")
_LITTLE_GB, _TOO_LITTLE_GB = 10, 1
"""Oxford-IIIT Pet is 0.8 GB to download, and 0.55 GB more as decoded images of 224 px."""
_SKEW_S, _TOO_MUCH_SKEW_S = 2.0, 30.0
_PORT = 6379
_DATASETS = {
    "pets": "oxford-iiit-pet/images",
    "fashion-mnist": "FashionMNIST/raw/train-images-idx3-ubyte",
    "cifar10": "cifar-10-batches-py/batches.meta",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    where: str
    verdict: Verdict
    words: str
    """What was found."""
    fix: str = ""
    """What to do about it; empty where nothing is to be done."""


def examine(address: str, data_dir: str | None, url: str | URL, studies: Path, checkpoints: str | None) -> list[Check]:
    """Look at this machine, and, unless `address` is ``local``, at each node of that cluster.

    `data_dir` None: each machine's own default; `checkpoints` None: each study's own folder, which is not looked at.
    """
    found = [database(url, studies), disk("studies", studies), port(), token()]
    if address == "local":
        return [*machine(data_dir, checkpoints), *found]
    try:
        with ray_session(address) as cluster:
            return [versions(), *found, *_on_cluster(cluster, data_dir, checkpoints)]
    except UsageError as error:
        return [versions(), *found, Check("cluster", address, "fail", str(error))]


def machine(data_dir: str | None, checkpoints: str | None) -> list[Check]:
    """Look at the machine that this runs on."""
    root = data_root(data_dir)
    return [
        versions(),
        gpus(nodes.own_facts()),
        rays_start(),
        disk("data folder", root),
        data(root),
        weights(root),
        *([place(checkpoints)] if checkpoints else []),
    ]


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the worst verdict."""
    return max((check.verdict for check in checks), key=ORDER.index, default="pass")


def versions() -> Check:
    """Compare the installed packages with the releases that hpo asks for."""
    name, python = "versions", nodes.own_versions()["python"]
    try:
        asked = [Requirement(line) for line in importlib.metadata.requires("hpo") or []]
    except importlib.metadata.PackageNotFoundError:
        return Check(
            name, "here", "warn", f"Python {python}; hpo runs from its source", "`pip install -e .` in its folder"
        )
    wrong = []
    for requirement in asked:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                version = "missing"
            if version == "missing" or not requirement.specifier.contains(version, prereleases=True):
                wrong.append(f"{requirement.name}{requirement.specifier} (here: {version})")
    if wrong:
        return Check(
            name,
            "here",
            "fail",
            f"Python {python}; missing, or other releases than hpo takes: {', '.join(wrong)}",
            "`pip install -c constraints.txt -e .` in hpo's folder",
        )
    versions = ", ".join(f"{package} {version}" for package, version in nodes.own_versions().items())
    return Check(name, "here", "pass", versions)


def gpus(facts: nodes.NodeFacts) -> Check:
    """See which cards the driver shows, and whether torch can use them."""
    found = cards()
    listed = "; ".join(f"{card.name}, {card.memory_gb:.1f} GB, driver {card.driver}" for card in found)
    if not found:
        return Check("GPU", "here", "warn", "none; trials train on the CPU", "see that `nvidia-smi` shows the card")
    if facts.gpu is None:
        build = f"torch {facts.versions.get('torch')}"
        return Check("GPU", "here", "fail", f"{listed}; {build} cannot use it", "install torch's build for its driver")
    return Check("GPU", "here", "pass", listed)


def rays_start() -> Check:
    """See whether this machine has what Ray needs to start."""
    name, problems = "Ray", obstacles()
    if problems:
        return Check(
            name,
            "here",
            "fail",
            "; ".join(problem.words for problem in problems),
            "; ".join(problem.fix for problem in problems),
        )
    folder, wrong = ray_folder()
    if wrong:
        return Check(
            name, "here", "warn", f"its files go to {folder}, for {', '.join(wrong)}", "name another RAY_TMPDIR"
        )
    if little := little_shared_memory():
        return Check(name, "here", "warn", f"{little}; its objects go to a disk", "a container takes --shm-size=1g")
    return Check(name, "here", "pass", f"its files go to {folder}")


def disk(name: str, folder: Path) -> Check:
    """See what is free on a folder's disk, and whether it can be written to; it need not exist yet."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    words = f"{free:.1f} GB free in {folder}"
    if not os.access(there, os.W_OK):
        return Check(name, "here", "fail", f"{there} cannot be written to", "chown it, or choose another folder")
    if free < _LITTLE_GB:
        verdict: Verdict = "fail" if free < _TOO_LITTLE_GB else "warn"
        return Check(name, "here", verdict, words, "make room, `hpo cache --clear`, or choose another folder")
    return Check(name, "here", "pass", words)


def data(root: Path) -> Check:
    """See which of the named datasets lie in the data folder."""
    there = [name for name, path in _DATASETS.items() if (root / path).exists()]
    if there:
        return Check("data", "here", "pass", f"{', '.join(there)} in {root}; others are downloaded at their first use")
    return Check("data", "here", "warn", f"none in {root} yet", "they are downloaded at their first use")


def weights(root: Path) -> Check:
    """See which published weights lie in the data folder."""
    folder = root / "weights"
    there = sorted(path.name for path in folder.glob("*") if path.suffix in (".pth", ".zip"))
    if there:
        return Check("weights", "here", "pass", f"{len(there)} files in {folder}")
    return Check("weights", "here", "warn", f"none in {folder} yet", "they are downloaded at their first use")


def database(url: str | URL, studies: Path) -> Check:
    """See whether the database opens and can be written to; one that is not there yet is not made."""
    try:
        with opening(url):
            file = sqlite_file(url)
            if file is not None and not file.exists():
                return _new_database(shown(url), file.absolute().parent, studies)
            engine = create_engine(url, poolclass=NullPool)
            with engine.connect() as connection:
                if engine.dialect.name == "sqlite":
                    # Otherwise SQLite would commit the table immediately.
                    connection.execute(text("BEGIN IMMEDIATE"))
                probe = f"hpo_doctor_{uuid.uuid4().hex[:8]}"
                connection.execute(text(f"CREATE TABLE {probe} (x INTEGER)"))
                connection.execute(text(f"DROP TABLE {probe}"))
                connection.rollback()
                tables = inspect(connection).get_table_names()
    except HpoError as error:
        return Check("database", "here", "fail", str(error).rstrip("."), "fix it, or name another with --storage")
    kind = "holds studies" if "studies" in tables else "empty"
    return Check("database", "here", "pass", f"{shown(url)} opens, {kind}")


def _new_database(url: str, folder: Path, studies: Path) -> Check:
    if not folder.exists() and folder != studies:
        return Check("database", "here", "fail", f"{folder}, its folder, is not there", f"mkdir -p {folder}")
    return Check("database", "here", "pass", f"{url} will be created")


def place(uri: str) -> Check:
    """Write, read and remove a small file where checkpoints are to be kept."""
    try:
        try_place(uri)
    except UsageError as error:
        return Check("checkpoints", "here", "fail", str(error), "fix it, or name another place")
    return Check("checkpoints", "here", "pass", f"{uri} can be written and read")


def port() -> Check:
    """See whether a cluster's port is free."""
    if any(node.cluster.endswith(f":{_PORT}") for node in live_nodes()):
        return Check("port", "here", "pass", f"{_PORT} is a cluster's that `hpo cluster` runs")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", _PORT))
        except OSError:
            fix = "`hpo cluster head --port N` takes another"
            return Check("port", "here", "warn", f"{_PORT} is taken by another program", fix)
    return Check("port", "here", "pass", f"{_PORT} is free for `hpo cluster head`")


def token() -> Check:
    """See whether the cluster's token is for its owner's eyes only."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Check("token", "here", "pass", "in RAY_AUTH_TOKEN")
    path = token_path()
    if not path.exists():
        return Check("token", "here", "pass", "none yet; `hpo cluster head` makes one, `hpo cluster join` takes one")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return Check("token", "here", "warn", f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")
    return Check("token", "here", "pass", f"{path}, readable by its owner alone")


def clock(node_id: str, where: str) -> Check:
    """Compare a node's clock with this machine's."""
    try:
        ahead, trip = nodes.clock_offset(node_id)
    except RayError as error:
        return Check("clock", where, "fail", f"no answer ({type(error).__name__})", "see whether the node still runs")
    words = f"{abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} this machine's (round trip {trip:.2f} s)"
    off = abs(ahead) - trip
    if off > _SKEW_S:
        return Check("clock", where, "fail" if off > _TOO_MUCH_SKEW_S else "warn", words, "set both by NTP")
    return Check("clock", where, "pass", words)


def _on_cluster(cluster: str, data_dir: str | None, checkpoints: str | None) -> list[Check]:
    known = nodes.facts()
    found = [Check("cluster", cluster, "pass", f"{len(known)} node{'s' if len(known) > 1 else ''}")]
    different = nodes.mismatches(known)
    fix = "install the same Python and packages there as here"
    found += [Check("same versions", cluster, "fail", line, fix) for line in different]
    if not different:
        found.append(Check("same versions", cluster, "pass", "Python, Ray, torch and hpo are the same on all nodes"))
    looked = nodes.each_node(machine, data_dir, checkpoints)
    for one in known:
        where, answer = nodes.describe(one), looked.get(one.node_id, nodes.NodeError("it is gone"))
        if isinstance(answer, nodes.NodeError):
            found.append(Check("node", where, "fail", str(answer), "see that this hpo is installed there"))
        else:
            found += [dataclasses.replace(check, where=where) for check in answer]
        found.append(clock(one.node_id, where))
    return found
