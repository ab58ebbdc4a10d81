"""Ray's searcher over the ledgers of a run: trials come from them, and every epoch and every end goes into them."""

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RuntimeEnvSetupError
from ray.tune import Callback
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpo.errors import DeadEndError, EnvironmentFailureError, HpoError, NoPlaceError, NothingFitsError, UsageError
from hpo.interrupts import Interruption
from hpo.machines.placement import Node, Placement, Share, as_node, place
from hpo.machines.session import alive, named
from hpo.spec import RunOptions
from hpo.tune.rungs import METRIC
from hpo.tune.trials import StudyTrials, UnfitError

logger = logging.getLogger(__name__)

RAY_ANSWER_S = 30.0
"""How long an empty task may take before Ray counts as dead."""
NODES_LOOK_S = 2.0
"""Seconds between two looks at which machines are alive."""


@dataclass
class _TuneTrial:
    """A trial that Ray has."""

    study: StudyTrials
    number: int
    share: Share
    waits: bool = True
    """Whether it still waits for a machine."""
    address: str | None = None
    """Address of the machine that it runs on, once it has reported."""


class LedgerSearch(Searcher):
    """Hands out the trials of one study after the other and records what becomes of them.

    Ray asks for a trial with `suggest`, reports each epoch with `on_trial_result`, and ends with `on_trial_complete`.
    The trial then ran to its last epoch, was stopped by ASHA (its last epoch is reported only here), or failed, in
    which case `RunWatch` reports the error a moment later.
    """

    def __init__(self, studies: Sequence[StudyTrials], placement: Placement, timeout_s: float | None) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._studies = studies
        self._given: dict[str, _TuneTrial] = {}
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._over = False
        self.placement = placement

    def stopping(self, trial_id: str) -> bool:
        """Whether a trial's run is over, out of time or failed, so that it does not continue after its epoch."""
        return self._is_over or (trial_id in self._given and self._given[trial_id].study.failure is not None)

    @property
    def _is_over(self) -> bool:
        return self._over or (self._deadline is not None and time.monotonic() >= self._deadline)

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's configuration for `Worker`, FINISHED when there is none left, None to wait."""
        study = next((study for study in self._studies if study.left), None)
        if self._is_over or (study is None and not any(study.open for study in self._studies)):
            return str(Searcher.FINISHED)
        running = [(one.share, one.address) for one in self._given.values() if not one.waits]
        waiting = [one.share for one in self._given.values() if one.waits]
        # A trial drawn now would wait for a GPU, and the sampler could not use the results of the running trials.
        if study is None or not self.placement.has_room(running, waiting):
            return None
        try:
            handout = study.hand_out(self.placement)
        except NothingFitsError as error:
            # The other studies continue.
            study.stop(error)
            return None
        except UnfitError:
            # Ray asks again.
            return None
        self._given[trial_id] = _TuneTrial(study, handout.assignment.number, handout.fit.share)
        return {**handout.config, "node": _node_at(study.wants_host(handout.assignment), handout.fit.share)}

    def started(self, trial_id: str) -> None:
        """Note that a trial has its machine."""
        self._given[trial_id].waits = False

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch after which the trial continues."""
        given = self._given[trial_id]
        given.address = result["host"]
        given.study.record(given.number, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record the end of a trial, unless it failed or the run is over, when the next run adopts it."""
        if error or result is None:
            return
        stopping = self.stopping(trial_id)
        given = self._given.pop(trial_id)
        given.study.complete(given.number, result, stopping=stopping)

    def fail(self, trial_id: str, error: str, *, lost: bool = False, outside: bool = False) -> None:
        """Record that a trial failed, that its machine was lost, or that the cause lies `outside` of it."""
        given = self._given.pop(trial_id)
        given.study.fail(given.number, error, lost=lost, outside=outside)

    def stop_if_nothing_can_start(self) -> None:
        """End the run where all that is left are trials that wait for cards that are gone.

        Raises:
            DeadEndError: Only such trials are left; Ray would wait forever.
        """
        given, cards = self._given.values(), self.placement.cards_gb
        if not given or not cards or any(not one.waits or one.share.vram_gb <= cards[-1] for one in given):
            return
        least = min(one.share.vram_gb for one in given)
        dead_end = DeadEndError(
            f"trials wait for a card of {least:g} GB, and the largest that is left has {cards[-1]:g} GB"
        )
        self.stop(dead_end)
        raise dead_end

    def stop(self, failure: HpoError) -> None:
        """End the studies that have not ended, for a reason outside their trials."""
        self._over = True
        for study in self._studies:
            if study.left or study.open:
                study.stop(failure)

    def __getstate__(self) -> dict[str, Any]:
        """Give Ray, which pickles its experiment, nothing to keep: the ledger has it all."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the ledger has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the ledger has it all."""


class RunWatch(Callback):
    """Passes to the searcher what Ray reports only to callbacks: that a trial started, and with what error one failed.

    Between two of Ray's steps it also handles an interruption, machines that join or leave, and the death of Ray.
    """

    def __init__(self, search: LedgerSearch, options: RunOptions, interruption: Interruption) -> None:
        self._search = search
        self._options = options
        self._interruption = interruption
        self._looked_at = time.monotonic()
        self._ray_died = False
        self._nodes = {node["NodeID"]: named(node) for node in alive()}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Stop if the user asked for it, or if no machine is left: Tune would wait for one forever.

        Raises:
            HpoError: Ray has died, or nothing that is left can ever start.
        """
        self._interruption.check()
        if time.monotonic() - self._looked_at > NODES_LOOK_S:
            self._looked_at = time.monotonic()
            self._look_at_nodes()
            self._search.stop_if_nothing_can_start()
        if self._ray_died:
            raise HpoError(f"Ray has died under this study; continue with: {self._interruption.command}")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Let the searcher know that a trial has its machine."""
        self._search.started(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Pass a failed trial's error to the searcher, unless the cause is not the trial: a full disk, Ray's death."""
        error = _error_of(trial)
        if isinstance(error, NoPlaceError):
            self._search.stop(error)
        elif isinstance(error, RayActorError) and not _ray_answers():
            self._ray_died = True
        else:
            lost = isinstance(error, ActorUnavailableError) or _NODE_DIED in str(error)
            if lost:
                # What is handed out again must not ask for the machine that is gone.
                self._look_at_nodes()
            self._search.fail(trial.trial_id, _described(error), lost=lost, outside=_is_outside(error))

    def _look_at_nodes(self) -> None:
        nodes = {node["NodeID"]: node for node in alive()}
        if not nodes:
            self._ray_died = True
            return
        gone, come = self._nodes.keys() - nodes.keys(), nodes.keys() - self._nodes.keys()
        for node in gone:
            logger.warning("node %s is gone; its trials continue elsewhere", self._nodes[node])
        for node in come:
            logger.warning("node %s has joined", named(nodes[node]))
        if gone or come:
            self._nodes = {node: named(one) for node, one in nodes.items()}
            self._place_anew([as_node(one["Resources"]) for one in nodes.values()])

    def _place_anew(self, nodes: list[Node]) -> None:
        """Divide the cluster as it is now among trials."""
        if self._search.placement.whole.gpus and not any(node.gpus for node in nodes):
            logger.warning("no GPU is left: trials wait until a node with one joins")
            return
        try:
            self._search.placement = place(self._options, nodes)
        except UsageError as error:
            logger.warning("%s Trials wait until a node that can hold them joins.", error)


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NODE_DIED = "node has died"
"""What Ray says of an actor whose machine is gone."""
_NOT_STARTED = "creation task"
"""What it says of one whose process did not get as far as its trial."""


def _node_at(host: str | None, share: Share) -> str | None:
    """Return Ray's name of a node at an address that can hold `share`, if one is there."""
    if host is None:
        return None
    there = (node for node in alive() if node["NodeManagerAddress"] == host)
    return next((node["NodeID"] for node in there if as_node(node["Resources"]).vram_gb >= share.vram_gb), None)


def _error_of(trial: Any) -> BaseException:
    """Return what a trial raised, or a RayActorError where its process died."""
    # Ray keeps the error in a file beside the trial; its own reader looks in a folder that gets the file only later.
    error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return getattr(error, "cause", None) or error


def _described(error: BaseException) -> str:
    """Return an error in one line: ``ValueError: too large``."""
    lines = _COLOURS.sub("", str(error)).strip().splitlines() or [""]
    # If a trial's process could not even start, Ray reports its traceback, whose last line is the reason.
    reason = lines[-1] if isinstance(error, RayActorError) and _NOT_STARTED in lines[0] else lines[0]
    return reason if isinstance(error, EnvironmentFailureError) else f"{type(error).__name__}: {reason}".rstrip(": ")


def _is_outside(error: BaseException) -> bool:
    """Whether a trial failed for a reason outside its configuration; its process starts without regard to that."""
    not_started = isinstance(error, RayActorError) and _NOT_STARTED in str(error)
    return not_started or isinstance(error, EnvironmentFailureError | RuntimeEnvSetupError)


def _ray_answers() -> bool:
    """Whether Ray still runs what it is given: a process that died may have died alone."""
    try:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        ray.get(ray.remote(_answer).options(num_cpus=0, scheduling_strategy=here).remote(), timeout=RAY_ANSWER_S)
    except RayError:
        return False
    return True


def _answer() -> None:
    """The empty task."""
