"""What stands in the words of people: levels, protocols, switches."""

from hpo.paper.experiment import SOUND, Experiment, Figure, Level, Point, Protocol

SWITCHES: dict[str, tuple[str, dict[object, str]]] = {
    "head": ("head", {"paper": "1,000 outputs, ReLU, linear", "projection": "projection", "linear": "linear"}),
    "frozen_random_layer": (
        "fresh layer below the last one, when frozen",
        {True: "frozen at its random start", False: "trained"},
    ),
    "evaluation_mode": ("evaluation", {"train": "in training mode", "eval": "in evaluation mode"}),
    "split": ("validation split", {"unseeded": "another one each run", "seeded": "one for all, by a seed"}),
    "measured": ("epoch that is judged on test", {"last epoch": "the last", "best epoch": "the best on validation"}),
}
"""Of each switch of a protocol, its name and those of its values."""


def level_words(figure: Figure, level: Level, point: Point) -> str:
    """Return a level of the parameter that varies, with the epochs that `point` has where they are not the level's."""
    match figure.varies:
        case "learning_rate":
            return f"{level:g}"
        case "batch_size":
            return f"batch {level}"
        case "epochs":
            here = "" if point.epochs == level else f" ({point.epochs} here)"
            return f"{level} epochs{here}"
        case "freeze_mode":
            return {"none": "fine-tuned", "partial": "partly frozen", "backbone": "transfer learning"}[str(level)]


def protocol_words(protocol: Protocol, experiment: Experiment) -> str:
    """Return a protocol's name, by what it has in common with the published one and the sound one."""
    if protocol == SOUND:
        return "soundly"
    if protocol == experiment.protocol:
        return "as published"
    return "as published but for " + ", ".join(SWITCHES[name][0] for name in protocol.differs_in(experiment.protocol))


def switch_words(name: str, value: object) -> str:
    """Return a switch's value."""
    return SWITCHES[name][1].get(value, str(value))
