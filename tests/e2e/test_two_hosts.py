"""One study over two hosts that share nothing but a network, as a user runs it, and the faults that it survives.

The head has a card of 12 GB and the node one of 8, as far as Ray knows: trials train on the CPU.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest

from hpo.ledger import studies as ledgers
from hpo.spec import trial_config, trial_seed
from tests.e2e.two_hosts import Host, Network, missing, two_hosts
from trainables.training.trial import run_trial

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=missing() or "")]

PORT = "6379"
SPACE = """
[parameters]
learning_rate = {{ low = 1e-4, high = 1e-2, log = true }}
batch_size = {{ choices = {sizes} }}
epochs = {epochs}
freeze_mode = "none"
"""
QUICK, LONG = SPACE.format(sizes=[16, 32], epochs=1), SPACE.format(sizes=[32], epochs=30)
LONGER = SPACE.format(sizes=[32], epochs=60)
"""Space of a study that still runs when Ray gives a node up, 10 to 20 s after its death."""
WAIT_S = 150.0


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with two_hosts(tmp_path_factory.mktemp("hosts")) as network:
        yield network


def start_head(network: Network) -> str:
    """Start the head as a user does, and return the line that it says to paste on the other host."""
    out, _ = network.head.hpo(
        *("cluster", "head", "--node-ip", network.head.address, "--port", PORT),
        *("--cpus", "1", "--gpus", "1", "--vram-gb", "12"),
    )
    return next(line.strip() for line in out.splitlines() if "hpo cluster join" in line)


def join(network: Network, line: str) -> None:
    """Paste the head's line on the other host."""
    token, *words = line.split()
    name, value = token.split("=")
    assert name == "RAY_AUTH_TOKEN"
    assert words[0] == "hpo"
    network.node.hpo(
        *words[1:],
        *("--node-ip", network.node.address, "--cpus", "1", "--gpus", "1", "--vram-gb", "8"),
        environment={name: value},
    )


@pytest.fixture(scope="module")
def cluster(network: Network) -> Network:
    join(network, start_head(network))
    return network


def asked(network: Network, study: str, space: str, trials: int, *more: str) -> tuple[str, ...]:
    (network.head.folder / f"{study}.toml").write_text(space, encoding="utf-8")
    return (
        *("run", "--backbone", "tests.tiny_backbone:tiny", "--dataset", "digits", "--image-size", "16"),
        *("--space", f"{study}.toml", "--study", study, "--trials", str(trials)),
        *("--address", f"{network.head.address}:{PORT}", "--no-retrain", *more),
    )


def url(network: Network) -> str:
    return f"sqlite:///{network.head.folder / 'studies' / 'optuna.db'}"


def trials(network: Network, study: str) -> list[optuna.trial.FrozenTrial]:
    """Return a study's trials; none before it is there."""
    if not (network.head.folder / "studies" / study / "splits.csv").exists():
        return []
    return optuna.load_study(study_name=study, storage=url(network)).trials


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.2)


def trains_on(network: Network, study: str, host: Host, epochs: int = 3) -> bool:
    """Whether a trial is under way on a host, with so many epochs."""
    return any(
        trial.state.name == "RUNNING"
        and trial.user_attrs.get("host") == host.address
        and epochs <= len(trial.intermediate_values) < trial.params["epochs"] - epochs
        for trial in trials(network, study)
    )


def end(process: subprocess.Popen[str]) -> str:
    """Wait for a run to end in order and return its stderr."""
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return err


def assert_all_is_there(network: Network, study: str, count: int) -> None:
    """Every trial ended once, with each of its epochs, and as the same trial does undisturbed and alone."""
    found = trials(network, study)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * count
    for trial in found:
        assert list(trial.intermediate_values) == list(range(1, trial.params["epochs"] + 1))
    assert not list(network.head.folder.parent.rglob("*.ckpt"))
    ledger = ledgers.open_study(url(network), study)
    chosen = max(found, key=lambda trial: int(trial.user_attrs["host"] == network.head.address))
    options = ledger.run_options.model_copy(update={"data_dir": str(network.head.folder / "data")})
    config = trial_config(ledger.spec, options, chosen.params, trial_seed(ledger.spec, chosen.number), 1, None)
    alone = {result.epoch: result.val_accuracy for result in run_trial(config)}
    assert chosen.intermediate_values == alone


@contextmanager
def s3(host: Host) -> Iterator[dict[str, str]]:
    """Serve S3 on a host, with an empty bucket, and yield what its users' environment needs."""
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host.address}:5555",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = [str(Path(sys.executable).with_name("moto_server")), "-H", host.address, "-p", "5555"]
    process = subprocess.Popen([*host.inside, *server], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    make = "import s3fs; s3fs.S3FileSystem(config_kwargs={'retries': {'max_attempts': 20}}).mkdir('bucket')"
    try:
        subprocess.run(
            [*host.inside, sys.executable, "-c", make],
            env={**os.environ, **environment},
            check=True,
        )
        yield environment
    finally:
        process.kill()
        process.wait()


def keys(host: Host, environment: dict[str, str]) -> str:
    """Return what lies in the bucket."""
    look = "import s3fs; print('\\n'.join(s3fs.S3FileSystem().find('bucket')))"
    found = subprocess.run(
        [*host.inside, sys.executable, "-c", look],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip()


def test_a_study_runs_on_both_hosts_with_nothing_on_the_smaller_card_that_it_cannot_hold(cluster: Network) -> None:
    command = asked(cluster, "both", QUICK, 20, "--no-asha", "--precision", "fp32", "--json")

    out, err = cluster.head.hpo(
        *(word.replace("tests.tiny_backbone:tiny", "tests.wide_backbone:wide") for word in command)
    )

    assert json.loads(out)["trials"] == {"complete": 20, "pruned": 0, "fail": 0, "running": 0}
    head, node = cluster.head.address, cluster.node.address
    ran = {
        size: {t.user_attrs["host"] for t in trials(cluster, "both") if t.params["batch_size"] == size}
        for size in (16, 32)
    }
    # A batch of 32 needs about 11 GB, one of 16 about 6.
    assert ran == {16: {head, node}, 32: {head}}
    for address in (head, node):
        assert f"both, {address} (" in err
    assert err.count("ready, 1437 training images") == 2
    assert "each node keeps its trials' checkpoints" in err
    # Each host decoded the images for itself.
    for host in (cluster.head, cluster.node):
        assert list((host.folder / "data" / "stores" / "images").glob("*.npy"))
    assert not list(cluster.head.folder.parent.rglob("*.ckpt"))


def test_a_cut_of_twenty_seconds_loses_nothing(cluster: Network) -> None:
    process = cluster.head.start(*asked(cluster, "cut", LONG, 3, "--no-asha"))
    wait_for(process, lambda: trains_on(cluster, "cut", cluster.node))

    cluster.cut()
    time.sleep(20)
    cluster.restore()

    end(process)
    assert_all_is_there(cluster, "cut", 3)


def test_a_node_that_dies_is_reported_and_may_join_again(cluster: Network) -> None:
    log = cluster.head.folder / "dies.log"
    with log.open("w", encoding="utf-8") as stderr:
        process = cluster.head.start(*asked(cluster, "dies", LONGER, 4, "--no-asha"), stderr=stderr)
    wait_for(process, lambda: trains_on(cluster, "dies", cluster.node))

    cluster.node.kill()
    gone = rf"node {re.escape(cluster.node.address)} .*is gone; its trials continue elsewhere"
    wait_for(process, lambda: re.search(gone, log.read_text("utf-8")) is not None)
    rejoin(cluster)

    code, err = process.wait(WAIT_S), log.read_text("utf-8")
    assert code == 0, err
    assert "Traceback" not in err
    assert_all_is_there(cluster, "dies", 4)


def rejoin(network: Network) -> None:
    token = (network.head.folder / "home" / ".ray" / "auth_token").read_text("utf-8").strip()
    join(network, f"RAY_AUTH_TOKEN={token} hpo cluster join {network.head.address}:{PORT}")


def test_the_head_dies_and_the_study_goes_on_with_a_new_one_where_each_trial_was(cluster: Network) -> None:
    command = asked(cluster, "beheaded", LONG, 3, "--no-asha")
    process = cluster.head.start(*command)
    wait_for(
        process,
        lambda: trains_on(cluster, "beheaded", cluster.head) and trains_on(cluster, "beheaded", cluster.node),
    )

    cluster.head.kill()
    process.wait()
    before = {trial.number: trial.intermediate_values for trial in trials(cluster, "beheaded")}
    cluster.node.hpo("cluster", "stop")
    join(cluster, start_head(cluster))
    _, err = cluster.head.hpo("resume", "beheaded")

    assert "starts again from epoch 0" not in err
    assert_all_is_there(cluster, "beheaded", 3)
    for trial in trials(cluster, "beheaded"):
        assert before.get(trial.number, {}).items() <= trial.intermediate_values.items()


@pytest.mark.slow
def test_a_trial_moves_with_its_checkpoint_in_s3_to_the_other_host(network: Network) -> None:
    for host in (network.head, network.node):
        host.kill()
    with s3(network.head) as environment:
        for host in (network.head, network.node):
            host.environment.update(environment)
        join(network, start_head(network))
        process = network.head.start(
            *asked(network, "moves", LONG, 2, "--no-asha", "--checkpoints", "s3://bucket/checkpoints")
        )
        wait_for(process, lambda: trains_on(network, "moves", network.node, 5))

        network.node.kill()

        err = end(process)
        assert re.search(r"checkpoints in s3://bucket/checkpoints/moves-\w+, which all nodes share", err)
        assert "starts again from epoch 0" not in err
        assert_all_is_there(network, "moves", 2)
        assert not keys(network.head, environment)
        assert {trial.user_attrs["host"] for trial in trials(network, "moves")} == {network.head.address}
