"""The commands of several machines: `hpo cluster` and `hpo doctor`. Nothing heavy is imported before it is needed."""

import dataclasses
import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hpo.api.options import DataDir, Location
from hpo.cli.groups import AsJson, grouped
from hpo.cli.output import console, print_json

if TYPE_CHECKING:
    from hpo.machines.gpus import Part

logger = logging.getLogger("hpo")

cluster = typer.Typer(
    name="cluster", help="Several machines as one: start a cluster, join it, see it, stop it.", no_args_is_help=True
)

NodeIp = Annotated[str | None, typer.Option(help="This machine's address; default: that of its way to the others.")]
Cpus = Annotated[int | None, typer.Option(min=1, help="CPUs to offer; default: all.")]
Gpus = Annotated[
    int | None, typer.Option(min=0, help="Cards to offer, or to suppose where none is seen; default: all; 0: none.")
]
VramGb = Annotated[
    float | None, typer.Option(min=1, help="GiB of each card, cut to whole ones; default: all that it has.")
]


@cluster.command()
def head(
    node_ip: NodeIp = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port that others join at.")] = 6379,
    cpus: Cpus = None,
    gpus: Gpus = None,
    vram_gb: VramGb = None,
) -> None:
    """Start a cluster; print the line to paste on others.

    Several cards become several nodes, one per card.
    """
    from hpo.machines import cluster as clusters
    from hpo.machines.connection import is_loopback
    from hpo.machines.tokens import read_token

    offered = _parts(cpus, gpus, vram_gb)
    node_ip = "127.0.0.1" if node_ip == "localhost" else node_ip or clusters.outgoing_ip()
    logger.info("starting a cluster at %s, this machine's address (--node-ip gives another)", node_ip)
    address = clusters.start_head(node_ip, port, offered)
    for part in offered:
        logger.info("node %s: %s", node_ip, part)
    sys.stdout.write(f"RAY_AUTH_TOKEN={read_token()} hpo cluster join {address}\nhpo run ... --address {address}\n")
    if not is_loopback(node_ip):
        logger.warning(
            "warning: Ray 2.60 listens on every address of this machine, port %d and others, whatever --node-ip says,"
            " and the token alone guards them: let a firewall allow the other machines and nobody else.",
            port,
        )


@cluster.command()
def join(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="As `hpo cluster head` printed it.")],
    node_ip: NodeIp = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    vram_gb: VramGb = None,
) -> None:
    """Let this machine join a cluster.

    The token comes from $RAY_AUTH_TOKEN and is kept, or from ~/.ray/auth_token.
    """
    from hpo.machines import cluster as clusters
    from hpo.machines.connection import split_address
    from hpo.machines.tokens import keep_token, token_path

    offered = _parts(cpus, gpus, vram_gb)
    node_ip = node_ip or clusters.outgoing_ip(split_address(address)[0])
    clusters.join(address, node_ip, offered)
    for part in offered:
        logger.info("node %s joined %s: %s", node_ip, address, part)
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token and keep_token(token.strip()):
        logger.info("kept the token in %s", token_path())


@cluster.command()
def status(
    address: Annotated[str, typer.Option(help="auto, or HOST:PORT.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Show the nodes of a cluster and what is in use."""
    from hpo.machines.cluster import nodes

    found, rows = nodes(address)
    if as_json:
        print_json({"address": found, "nodes": [dataclasses.asdict(row) for row in rows]})
        return
    table = Table("node", "alive", "GPU", box=None, pad_edge=False)
    for column in ("vram_gb", "CPUs", "in use", "GPUs", "in use"):
        table.add_column(column, justify="right")
    for row in rows:
        memory = "-" if row.vram_gb is None else f"{row.vram_gb:g}"
        numbers = (f"{number:g}" for number in (row.cpus, row.cpus_in_use, row.gpus, row.gpus_in_use))
        table.add_row(row.address, "yes" if row.alive else "no", row.gpu or "-", memory, *numbers)
    console().print(table)


@cluster.command()
def stop(
    address: Annotated[str | None, typer.Option(help="HOST:PORT of the cluster to leave; default: all.")] = None,
) -> None:
    """Stop this machine's part of a cluster.

    Only what `hpo cluster` started ends; other Ray processes, such as a local study's, continue.
    """
    from hpo.machines.cluster import stop as end

    stopped = end(address)
    for name, processes in stopped.items():
        sys.stdout.write(f"stopped this machine's part of the cluster at {name} ({processes} processes)\n")
    if not stopped:
        sys.stdout.write(f"nothing to stop: no cluster{f' at {address}' if address else ''} runs on this machine\n")


@grouped
def doctor(
    *,
    address: Annotated[
        str, typer.Option(help="local: this machine; auto or HOST:PORT: each node of a cluster.")
    ] = "local",
    data_dir: DataDir = None,
    location: Location,
    checkpoints: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL for trials' checkpoints; default: none is tried.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what would stop a study on this machine, or on a cluster, and how to fix it."""
    from hpo.machines.checkpoints import checked_place
    from hpo.studies.doctor import examine, worst

    place = checkpoints and checked_place(checkpoints)
    checks = examine(address, data_dir, location.url, location.studies, place)
    if as_json:
        print_json({"verdict": worst(checks), "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        table = Table("verdict", "check", "where", "found", box=None, pad_edge=False)
        for check in checks:
            words = f"{check.words}: {check.fix}" if check.fix else check.words
            table.add_row(check.verdict, check.name, check.where, words)
        console(piped_width=1000).print(table)
    if worst(checks) == "fail":
        raise typer.Exit(1)


def _parts(cpus: int | None, gpus: int | None, vram_gb: float | None) -> "tuple[Part, ...]":
    from joblib import cpu_count

    from hpo.machines.gpus import cards, parts

    return parts(cards(), cpu_count(), cpus=cpus, gpus=gpus, vram_gb=vram_gb)
