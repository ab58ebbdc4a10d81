"""Before the first trial: every node has the same versions, the data and the weights; what cards must hold is known."""

import dataclasses
import importlib.util
import logging
import logging.handlers
import queue
import secrets
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import search_spaces
from hpo.errors import HpoError, UsageError
from hpo.ledger.ledger import Ledger
from hpo.machines.checkpoints import CheckpointPlace, take_probes, try_place, write_probe
from hpo.machines.nodes import NodeError, NodeFacts, each_node, facts, mismatches
from hpo.machines.placement import Placement, as_node
from hpo.machines.session import alive, named, use_given_cards
from hpo.paths import StudyPaths
from hpo.spec import RunOptions, StudySpec, trial_config
from trainables import trainable
from trainables.config import FREEZE_MODES, FreezeMode, MemoryNeed, TrialConfig
from trainables.published.protocol import Protocol
from trainables.steps import Step, step_of
from trainables.trainable import freezes

logger = logging.getLogger(__name__)

_PACKAGES = ("hpo", "search_spaces", "trainables")


@dataclass(frozen=True)
class OpenStudy:
    """A study whose ledger is open."""

    ledger: Ledger
    options: RunOptions
    paths: StudyPaths

    @property
    def configs(self) -> tuple[TrialConfig, ...]:
        """One fine-tuning trial of each freeze mode that can be drawn, as far as data, weights and memory depend on it.

        Of any other trainable one alone, for its data and weights.
        """
        params = {"learning_rate": 1e-3, "batch_size": 1, "epochs": 1}
        spec = self.ledger.spec
        drawn = self.ledger.space.freeze_modes if freezes(spec.trainable) else frozenset({"none"})
        modes = [mode for mode in FREEZE_MODES if mode in drawn]
        return tuple(trial_config(spec, self.options, {**params, "freeze_mode": mode}, 0, 1, None) for mode in modes)


@dataclass(frozen=True)
class Readiness:
    """What was found out about a study on the machines that will run it."""

    checkpoints: CheckpointPlace
    needs: Mapping[FreezeMode, MemoryNeed]


def make_ready(opened: Sequence[OpenStudy], placement: Placement) -> list[Readiness]:
    """Check every node of the cluster, fill it with what the studies' trials will read, and measure what they need.

    This machine alone was checked when its study was created.

    Raises:
        UsageError: Nodes have other versions than this process, or cannot have the data or the weights.
    """
    clustered = opened[0].options.address != "local"
    silent = [
        _node_name(node["NodeID"])
        for node in alive()
        if as_node(node["Resources"]).gpus and not as_node(node["Resources"]).vram_gb
    ]
    if silent:
        logger.warning(
            "%s: the memory of the card is not known, so no trial is placed by memory; `hpo cluster` starts nodes that"
            " report it",
            ", ".join(silent),
        )
    known = facts() if clustered or placement.cards_gb else []
    if clustered:
        _refuse_others(known)
        for one in opened:
            _fill(one, placement)
    width = max((fact.autocast_width for fact in known), default=4)
    return [
        Readiness(
            _checkpoint_place(one, clustered),
            _needs(one, width) if placement.cards_gb and freezes(one.ledger.spec.trainable) else {},
        )
        for one in opened
    ]


def verify(spec: StudySpec, options: RunOptions) -> None:
    """See that this machine has the weights, the code and the images that a study recorded, and that they can be read.

    Raises:
        UsageError, trainables.InputError: It has not; the message names what is missing or another.
    """
    from hpo.studies.preflight import readable
    from trainables.networks import backbones, identity

    trainable.verify(spec.trainable, spec.trainable_sha256)
    identity.verify(spec.model, options.data_dir)
    backbones.check(spec.model, options.data_dir)
    readable(spec.data, identity.geometry_of(spec.model), options, skip_bad=False)


def modules_of(names: Sequence[str]) -> list[Path]:
    """Return what every node is sent: this project's packages, and the modules of users' own backbones and trainables.

    `names` are those of backbones and trainables.
    """
    own = {name.partition(":")[0].partition(".")[0] for name in names if ":" in name} - {"torchvision"}
    return [path for name in (*_PACKAGES, *sorted(own)) if (path := _source(name)) is not None]


def _source(name: str) -> Path | None:
    """Return a package's folder or a module's file; None where it was installed, hence is on every node by itself."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin in ("built-in", "frozen"):
        return None
    path = Path(next(iter(spec.submodule_search_locations or [str(spec.origin)])))
    installed = Path(sysconfig.get_path("purelib"))
    return None if name not in _PACKAGES and installed in path.parents else path


def _refuse_others(known: Sequence[NodeFacts]) -> None:
    problems = mismatches(known)
    if problems:
        raise UsageError("the nodes do not fit together:\n  " + "\n  ".join(problems))


def _checkpoint_place(one: OpenStudy, clustered: bool) -> CheckpointPlace:
    """Find out, by writing on every node and reading here, whether the nodes share a place for checkpoints."""
    name, asked, folder = one.ledger.name, one.options.checkpoints, one.ledger.checkpoint_folder
    uri = f"{asked.rstrip('/')}/{folder}" if asked else str(one.paths.checkpoints)
    if not clustered:
        if asked:
            try_place(uri)
        return CheckpointPlace(folder, uri, shared=True)
    token = secrets.token_hex(8)
    # A folder that nobody asked for is not made on other machines.
    written = each_node(write_probe, uri, token, asked is not None)
    failed = {node_id: words for node_id, words in written.items() if isinstance(words, NodeError)}
    if asked and failed:
        each_node(take_probes, uri, token)
        raise UsageError(
            f"--checkpoints {asked} cannot be written on these nodes; fix that, or choose another place:"
            + "".join(f"\n  {_node_name(node_id)}: {words}" for node_id, words in failed.items())
        )
    seen = set() if failed else take_probes(uri, token)
    # A single machine, even with several cards, shares its folders with no machine that may join later.
    machines = {node["NodeManagerAddress"] for node in alive()}
    if seen >= set(written.values()) and ("://" in uri or len(machines) > 1):
        logger.info("study %s: checkpoints in %s, which all nodes share: a trial continues wherever it is", name, uri)
        return CheckpointPlace(folder, uri, shared=True)
    each_node(take_probes, uri, token)
    logger.info(
        "study %s: each node keeps its trials' checkpoints, in %s: a trial continues there, and starts anew elsewhere"
        " if its node is gone or busy; --checkpoints with a shared folder or a URL such as s3://bucket/folder avoids"
        " that",
        name,
        uri if asked else "its data folder",
    )
    return CheckpointPlace(folder, uri if asked else None, shared=False, data_dir=one.options.data_dir)


def _node_name(node_id: str) -> str:
    return next((named(node) for node in alive() if node["NodeID"] == node_id), "a node that is gone")


def _needs(one: OpenStudy, width: int) -> dict[FreezeMode, MemoryNeed]:
    """Estimate, in a process that has torch, the GPU memory of each freeze mode."""
    width = {"fp32": 4, "fp16": 2, "bf16": 2}.get(one.ledger.spec.model.precision, width)
    task = ray.remote(num_cpus=0)(_estimate)
    try:
        needs: dict[FreezeMode, MemoryNeed] = ray.get(
            task.remote(one.configs, len(one.ledger.splits["classes"]), width)
        )
    except RayError as error:
        raise HpoError(
            f"the GPU memory of {one.ledger.spec.model.backbone} cannot be estimated ({_cause(error)})."
        ) from error
    unknown = [config.freeze_mode for config in one.configs if config.freeze_mode not in needs]
    if unknown:
        logger.warning(
            "study %s: what freeze mode %s needs of a card cannot be estimated; such trials go to any card",
            one.ledger.name,
            " and ".join(unknown),
        )
    return needs


def _estimate(configs: tuple[TrialConfig, ...], classes: int, width: int) -> dict[FreezeMode, MemoryNeed]:
    """Leave out modes that cannot be estimated, as with some users' networks; such trials then ask for no memory."""
    from trainables.errors import InputError
    from trainables.training.memory import estimate

    needs = {}
    for config in configs:
        with suppress(InputError):
            needs[config.freeze_mode] = estimate(
                config.model,
                config.freeze_mode,
                classes=classes,
                augment=config.data.augment,
                width=width,
                data_dir=config.machine.data_dir,
            )
    return needs


def _fill(one: OpenStudy, placement: Placement) -> None:
    """Let all nodes fetch and decode what the study's trials will read, and log the progress of each."""
    asked = placement.frozen
    nodes = {node["NodeID"]: node for node in alive()}
    streams: dict[str, Any] = {}
    for node_id, node in nodes.items():
        # The process ends with its task, since no trial's share counts the memory that it keeps on a card.
        task = ray.remote(num_cpus=0, max_calls=1)(_filling).options(
            num_returns="streaming",
            num_gpus=asked.gpus if node["Resources"].get("GPU") else 0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            max_retries=0,
        )
        streams[node_id] = task.remote(one.ledger.spec, one.configs, one.options)
    problems = []
    while streams:
        stream: Any = ray.wait(list(streams.values()), num_returns=1)[0][0]
        node_id = next(node_id for node_id, one_stream in streams.items() if one_stream is stream)
        try:
            words, step = ray.get(next(stream))
            where = named(nodes[node_id])
            known = {"step": dataclasses.replace(step, work=f"{step.work} on {where}")} if step else {}
            logger.info("%s, %s: %s", one.ledger.name, where, words, extra=known)
        except StopIteration:
            del streams[node_id]
        except RayError as error:
            del streams[node_id]
            problems.append(f"{named(nodes[node_id])}: {_cause(error)}")
    if problems:
        raise UsageError(
            f"study {one.ledger.name} cannot start; fix these nodes or take them out with `hpo cluster stop` there:"
            + "".join(f"\n  {problem}" for problem in problems)
        )


def _filling(
    spec: StudySpec, configs: tuple[TrialConfig, ...], options: RunOptions
) -> Iterator[tuple[str, Step | None]]:
    """Yield what the stores log while they are filled, and how far long work is (runs on a node)."""
    use_given_cards()
    messages: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    log = logging.getLogger("trainables")
    log.setLevel(logging.INFO)
    log.addHandler(handler := logging.handlers.QueueHandler(messages))
    try:
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(_fill_this_node, spec, configs, options)
            while not (work.done() and messages.empty()):
                try:
                    record = messages.get(timeout=0.2)
                    yield record.getMessage(), step_of(record)
                except queue.Empty:
                    continue
            yield work.result(), None
    finally:
        log.removeHandler(handler)


def _fill_this_node(spec: StudySpec, configs: tuple[TrialConfig, ...], options: RunOptions) -> str:
    from trainables.training import epoch, feature_store, trial

    verify(spec, options)
    data = trial.open_training_data(configs[0])
    for config in configs if _reads_features(spec) else ():
        if feature_store.applies(config):
            feature_store.with_features(epoch.new_learner(config, len(data.classes)), data.examples)
    return f"ready, {len(data.examples.labels)} training images"


def _reads_features(spec: StudySpec) -> bool:
    """Return whether a study's trials may look for features: those of a protocol in training mode never do."""
    if spec.trainable != trainable.PUBLISHED:
        return True
    space = search_spaces.from_dict(spec.search.space, "the search space", trainable=spec.trainable)
    return not all(Protocol.parse(str(one)).training_mode for one in space.values("protocol"))


def _cause(error: BaseException) -> str:
    """Return what the task raised: the last line of Ray's message."""
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1].rstrip(".")
