"""A real PostgreSQL server on loopback, started and stopped by the tests where its programs are installed."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import NullPool, create_engine, text

MISSING = "PostgreSQL's initdb is not installed"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server of one's own."""

    programs: Path
    data: Path
    port: int

    @property
    def url(self) -> str:
        """Its database, as `--storage` takes it."""
        return f"postgresql://hpo@127.0.0.1:{self.port}/postgres"

    def new_database(self) -> str:
        """Create an empty database and return its address."""
        name = f"hpo_{secrets.token_hex(8)}"
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return self.url.replace("/postgres", f"/{name}")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.data} -c fsync=off"
        self._control("start", "-w", "-l", str(self.data / "log"), "-o", options)

    def stop(self) -> None:
        """Stop immediately, as if it had crashed."""
        self._control("stop", "-m", "immediate", "-w", "-t", "300")

    def _control(self, *arguments: str) -> None:
        _run_as_somebody(self.programs / "pg_ctl", "-D", str(self.data), *arguments)


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb") or next(
        (str(path) for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None
    )
    return Path(found).resolve().parent if found else None


@contextmanager
def postgres_server(folder: Path) -> Iterator[Server]:
    """Start a server whose data lie in `folder`, and stop it in the end."""
    where = programs()
    assert where is not None, "PostgreSQL is not installed"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "postgres"
    data.mkdir()
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        shutil.chown(data, "nobody")
        for parent in folder.parents[:-1] if len(folder.parents) > 1 else ():
            if parent.stat().st_uid == 0 and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o011)
        folder.chmod(folder.stat().st_mode | 0o011)
    _run_as_somebody(where / "initdb", "-D", str(data), "-U", "hpo", "-A", "trust", "--no-sync")
    server = Server(where, data, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _run_as_somebody(program: Path, *arguments: str) -> None:
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    subprocess.run(
        [str(program), *arguments], user=user, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/"
    )
