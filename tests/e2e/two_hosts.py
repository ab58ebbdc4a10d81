"""Two hosts on a switch, made of namespaces: neither sees the other's processes or files.

Each host has an address, a home, a data folder and a Ray folder of its own. Needs root, iproute2 and util-linux.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).parents[2]
HPO = Path(sys.executable).with_name("hpo")
KERNEL_WAIT_S = 30.0
"""How long a process may take to begin, or to be gone once it is killed."""


@dataclass(frozen=True)
class Host:
    """A machine of its own, as far as the network goes."""

    namespace: str
    address: str
    folder: Path
    """Where it works; its home and data lie below."""
    ray_folder: Path
    init: int
    """The process that holds its namespaces."""
    has_code: bool
    """Whether this project's own backbones for tests can be imported here."""
    environment: dict[str, str] = field(default_factory=dict)
    """What all its commands find besides."""

    @property
    def inside(self) -> list[str]:
        """What runs a command on this host."""
        return ["nsenter", "--target", str(self.init), "--net", "--pid", "--mount", f"--wd={self.folder}"]

    def start(
        self,
        *arguments: str,
        environment: dict[str, str] | None = None,
        stderr: IO[str] | int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start `hpo` on this host, with what is in `environment` besides."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HPO_", "RAY_"))}
        own = {
            "HOME": str(self.folder / "home"),
            "HPO_DATA_DIR": str(self.folder / "data"),
            "RAY_TMPDIR": str(self.ray_folder),
            "PYTHONPATH": str(ROOT) if self.has_code else "",
            **self.environment,
            **(environment or {}),
        }
        return subprocess.Popen(
            [*self.inside, str(HPO), *arguments],
            cwd=self.folder,
            env=inherited | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def hpo(self, *arguments: str, code: int = 0, environment: dict[str, str] | None = None) -> tuple[str, str]:
        """Run `hpo` on this host to its end."""
        process = self.start(*arguments, environment=environment)
        out, err = process.communicate(timeout=200)
        assert process.returncode == code, f"{arguments} ended with {process.returncode}:\n{out}\n{err}"
        return out, err

    def kill(self) -> None:
        """Pull its plug: SIGKILL for all of its processes at the same time."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + KERNEL_WAIT_S
        while self.pids():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def pids(self) -> list[int]:
        """Return its processes."""
        found = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        return [pid for pid in map(int, found.stdout.split()) if pid not in (self.init, self.shell)]

    @property
    def shell(self) -> int:
        """The parent of `init`."""
        parent = psutil.Process(self.init).parent()
        return parent.pid if parent is not None else 0


@dataclass(frozen=True)
class Network:
    """A switch with two hosts."""

    switch: str
    head: Host
    node: Host

    def cut(self) -> None:
        """Let nothing through between the hosts; both still see a carrier, as behind a switch that hangs."""
        _ip("-n", self.switch, "link", "set", "node", "nomaster")

    def restore(self) -> None:
        """Let everything through again."""
        _ip("-n", self.switch, "link", "set", "node", "master", "bridge")


def missing() -> str | None:
    """Return what keeps this machine from having network namespaces; None: nothing."""
    if os.geteuid() != 0:
        return "making hosts needs root"
    programs = [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]
    return f"hosts need {', '.join(programs)}" if programs else None


@contextmanager
def two_hosts(folder: Path) -> Iterator[Network]:
    """Make two hosts that work in `folder`, and take them down again."""
    me = os.getpid() % 100_000
    names = {role: f"hpo-{role}-{me}" for role in ("switch", "head", "node")}
    # The paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="h") as ray:
        hosts = {}
        try:
            for name in names.values():
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", names["switch"], "link", "add", "bridge", "type", "bridge")
            _ip("-n", names["switch"], "link", "set", "bridge", "up")
            for number, role in enumerate(("head", "node"), start=1):
                hosts[role] = _plug_in(role, f"10.213.7.{number}", names, folder / role, Path(ray) / role[0])
            yield Network(names["switch"], hosts["head"], hosts["node"])
        finally:
            for host in hosts.values():
                host.kill()
                os.kill(host.shell, signal.SIGKILL)
            for name in names.values():
                subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _plug_in(role: str, address: str, names: dict[str, str], folder: Path, ray_folder: Path) -> Host:
    switch, name = names["switch"], names[role]
    _ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", role, "netns", switch)
    _ip("-n", switch, "link", "set", role, "master", "bridge", "up")
    _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")
    (folder / "home").mkdir(parents=True)
    ray_folder.mkdir()
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "infinity"]
    shell = psutil.Popen(["ip", "netns", "exec", name, *unshare])
    deadline = time.monotonic() + KERNEL_WAIT_S
    while not (children := shell.children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    host = Host(name, address, folder, ray_folder, children[0].pid, has_code=role == "head")
    hidden = folder.with_name("node" if role == "head" else "head")
    hidden.mkdir(exist_ok=True)
    subprocess.run([*host.inside, "mount", "-t", "tmpfs", "tmpfs", str(hidden)], check=True)
    return host


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
