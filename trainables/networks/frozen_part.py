"""Where a network's frozen part ends: the part before, a function of the image alone, and the tail that trains."""

from dataclasses import dataclass

from torch import fx, nn

from trainables.networks.backbones import Network


@dataclass(frozen=True)
class Split:
    """A network in two, which share its parameters; tail(frozen(images)) is what the network gives."""

    frozen: nn.Module
    """(B, 3, S, S) normalised images -> (B, ...) features."""
    tail: nn.Module
    """(B, ...) features -> (B, classes) logits."""


def split(network: Network, moving: tuple[str, ...]) -> Split | None:
    """Cut a network in front of the first of the modules that train.

    Args:
        network: The whole network.
        moving: The paths of the modules that train.

    Returns:
        Both parts; None where the network branches on what it is given, so that it cannot be traced, or where more than
        one tensor passes from what is frozen to what trains.
    """
    tracer = _Tracer(moving)
    try:
        nodes = list(tracer.trace(network.model).nodes)
    except (TypeError, ValueError, RuntimeError, fx.proxy.TraceError):
        return None
    finally:
        # torch leaves the tracer in a cycle of references, and the network would stay there with it (see `_module`).
        tracer.root, tracer.submodule_paths, tracer.tensor_attrs = nn.Module(), None, {}
    first = next(i for i, node in enumerate(nodes) if _is_below(str(node.target), moving))
    before = set(nodes[:first])
    crossing = {given for node in nodes[first:] for given in node.all_input_nodes if given in before}
    if len(crossing) != 1:
        return None
    (features,) = crossing
    return Split(_before(network.model, nodes[:first], features), _behind(network.model, nodes[first:], features))


class _Tracer(fx.Tracer):
    """Looks no deeper into a network than it must: what is inside a module then keeps its two modes."""

    def __init__(self, moving: tuple[str, ...]) -> None:
        super().__init__()
        self._moving = moving

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - torch's signature
        """Return whether no module that trains lies strictly below."""
        return not any(path.startswith(f"{module_qualified_name}.") for path in self._moving)


def _before(model: nn.Module, nodes: list[fx.Node], features: fx.Node) -> nn.Module:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[features])
    return _module(model, graph)


def _behind(model: nn.Module, nodes: list[fx.Node], features: fx.Node) -> nn.Module:
    graph = fx.Graph()
    copies = {features: graph.placeholder("features")}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    return _module(model, graph)


def _module(model: nn.Module, graph: fx.Graph) -> nn.Module:
    module = fx.GraphModule(model, graph)
    # A module and its graph that refer to each other would keep the network in memory until Python's next full
    # collection, which a process that serves one trial after the other may not see for long.
    graph.owning_module = None
    return module


def _is_below(target: str, moving: tuple[str, ...]) -> bool:
    return f"{target}.".startswith(tuple(f"{path}." for path in moving))
