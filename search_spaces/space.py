"""A search space as data, and the checks that a document must pass to become one."""

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna.distributions as od

from search_spaces.parameters import Names, ParamValue, Rule, names_of

Distribution = od.FloatDistribution | od.IntDistribution | od.CategoricalDistribution

_RANGE_KEYS = frozenset({"low", "high", "log", "step", "when"})
_CHOICE_KEYS = frozenset({"choices", "when"})


class SpaceError(ValueError):
    """A search space cannot be used; the message has one line per mistake: file, key, the problem, what is allowed."""


@dataclass(frozen=True)
class Alternative:
    """One way to draw a parameter, and when it holds."""

    distribution: Distribution
    """A constant is a categorical distribution of one choice."""
    when: Mapping[str, tuple[ParamValue, ...]]
    """It holds where each of these parameters has one of these values; empty: always."""


@dataclass(frozen=True)
class SearchSpace:
    """Where configurations come from."""

    parameters: Mapping[str, tuple[Alternative, ...]]
    """By name, in an order in which no condition looks ahead. Under every condition one alternative holds."""
    enqueue: tuple[Mapping[str, ParamValue], ...]
    """Configurations to try first; what they leave out is sampled."""

    @property
    def freeze_modes(self) -> frozenset[ParamValue]:
        """Those that can be drawn; empty where it is no parameter."""
        return self.values("freeze_mode")

    def values(self, name: str) -> frozenset[ParamValue]:
        """Return what a parameter can be; empty where it is a range, or there is none of that name."""
        return frozenset(_values(self.parameters.get(name, ())) or ())

    @property
    def max_epochs(self) -> int:
        """The most epochs that a trial can have."""
        return self.largest("epochs")

    def largest(self, name: str) -> int:
        """Return the greatest value that a parameter of whole numbers can have."""
        return max(int(_largest(alternative.distribution)) for alternative in self.parameters[name])

    def smallest_batch(self, freeze_mode: str) -> int:
        """Return the fewest images of a batch that can be drawn with a freeze mode."""
        possible = (a for a in self.parameters["batch_size"] if _compatible(a, {"freeze_mode": freeze_mode}))
        return min(int(_smallest(alternative.distribution)) for alternative in possible)


def from_dict(
    data: Mapping[str, Any], where: str, base: SearchSpace | None = None, trainable: str = "finetune"
) -> SearchSpace:
    """Check a document and return the search space that it describes.

    Args:
        data: The document, in the structure of the TOML file.
        where: Its name, for errors.
        base: Gives the parameters of a document that has none; None: it must have them.
        trainable: The name of what the trials run, which says which parameters there are.

    Raises:
        SpaceError: It has mistakes; the message lists them all.
    """
    problems = [
        f"{key}: unknown; a search space has [parameters] and [[enqueue]]."
        for key in sorted(data.keys() - {"parameters", "enqueue"})
    ]
    if "parameters" not in data and base is not None:
        parameters = dict(base.parameters)
    else:
        parameters = _parameters(data.get("parameters"), names_of(trainable), problems)
    _raise(problems, where)
    enqueue = _enqueue(data.get("enqueue", []), parameters, names_of(trainable), problems)
    _raise(problems, where)
    return SearchSpace(parameters, enqueue)


def to_dict(space: SearchSpace) -> dict[str, Any]:
    """Return `space` in the structure of its TOML file; `from_dict` gives it back."""
    parameters: dict[str, Any] = {}
    for name, alternatives in space.parameters.items():
        described = [_describe(alternative) for alternative in alternatives]
        parameters[name] = described if len(described) > 1 or "when" in described[0] else described[0]
    return {"parameters": parameters, "enqueue": [dict(entry) for entry in space.enqueue]}


def holding(alternatives: tuple[Alternative, ...], values: Mapping[str, ParamValue]) -> list[Alternative]:
    """Return the alternatives whose conditions hold under `values`."""
    return [
        alternative
        for alternative in alternatives
        if all(values.get(name) in allowed for name, allowed in alternative.when.items())
    ]


def _raise(problems: list[str], where: str) -> None:
    if problems:
        raise SpaceError("\n".join(f"{where}: {problem}" for problem in problems))


def _parameters(table: object, names: Names, problems: list[str]) -> dict[str, tuple[Alternative, ...]]:
    if not isinstance(table, Mapping):
        problems.append(f"parameters: a table with {', '.join(names.needed)} is needed.")
        return {}
    for name in table:
        if names.wrong(name):
            near = difflib.get_close_matches(str(name), names.rules, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            problems.append(f"parameters.{name}: unknown; {hint}allowed are {names.allowed}.")
    missing = [name for name in names.needed if name not in table]
    problems += [f"parameters.{name}: missing; give a range, choices or a constant." for name in missing]
    # What is drawn depends on the order, which is the same for a study that is read from its ledger.
    ordered = [*(name for name in names.needed if name in table), *(one for one in table if one not in names.needed)]
    known = [name for name in ordered if not names.wrong(name)]
    found = {name: _alternatives(name, table[name], names, known, problems) for name in known}
    if problems:
        return {}
    return _ordered(found, problems)


def _alternatives(
    name: str, entry: object, names: Names, known: Sequence[str], problems: list[str]
) -> tuple[Alternative, ...]:
    entries = entry if isinstance(entry, list) and entry and isinstance(entry[0], Mapping) else [entry]
    several = len(entries) > 1
    alternatives = []
    for index, one in enumerate(entries):
        key = f"parameters.{name}[{index}]" if several else f"parameters.{name}"
        alternative = _alternative(name, key, one, names, known, problems)
        if alternative is not None:
            alternatives.append(alternative)
    categorical = {
        a.distribution.choices for a in alternatives if isinstance(a.distribution, od.CategoricalDistribution)
    }
    mixed = any(not isinstance(a.distribution, od.CategoricalDistribution) for a in alternatives)
    if len(categorical) > 1 or (categorical and mixed):
        problems.append(
            f"parameters.{name}: alternatives must all be ranges, or all have the same choices, because Optuna allows"
            " one kind per parameter; write a constant as a range with low = high."
        )
    return tuple(alternatives)


def _alternative(
    name: str, key: str, entry: object, names: Names, known: Sequence[str], problems: list[str]
) -> Alternative | None:
    before = len(problems)
    table = entry if isinstance(entry, Mapping) else {"choices": [entry]}
    kind = _CHOICE_KEYS if "choices" in table else _RANGE_KEYS
    for extra in table.keys() - kind:
        allowed = ", ".join(sorted(kind))
        problems.append(f"{key}.{extra}: unknown here; allowed are {allowed}.")
    drawn = _choices if "choices" in table else _range
    distribution = drawn(names.rule(name), key, table, problems)
    when = _when(name, key, table.get("when", {}), names, known, problems)
    if distribution is None or len(problems) > before:
        return None
    return Alternative(distribution, when)


def _choices(rule: Rule, key: str, table: Mapping[str, Any], problems: list[str]) -> Distribution | None:
    choices = table["choices"]
    if not isinstance(choices, list) or not choices:
        problems.append(f"{key}.choices: a list of at least one value is needed, but it is {choices!r}.")
        return None
    wrong = [problem for value in choices if (problem := rule.wrong(value))]
    problems += [f"{key}: {problem}" for problem in wrong]
    if wrong:
        return None
    values = [rule.stored(value) for value in choices]
    if len(set(values)) < len(values):
        problems.append(f"{key}.choices: each value may stand there once, but it is {choices!r}.")
        return None
    return od.CategoricalDistribution(values)


def _range(rule: Rule, key: str, table: Mapping[str, Any], problems: list[str]) -> Distribution | None:
    if not rule.is_range:
        problems.append(f"{key}: choices or a constant is needed, of {rule.needed.removeprefix('one of ')}.")
        return None
    if "low" not in table or "high" not in table:
        problems.append(f"{key}: a range needs low and high (or give choices).")
        return None
    wrong = _wrong_ends(rule, table)
    problems += [f"{key}.{problem}" for problem in wrong]
    if wrong:
        return None
    low, high, step, log = table["low"], table["high"], table.get("step"), table.get("log", False)
    if low > high:
        problems.append(f"{key}: low <= high must hold, but low={low}, high={high}; swap them.")
        return None
    if step is not None and not _divides(low, high, step):
        problems.append(f"{key}.step: high - low must be a multiple of step, but low={low}, high={high}, step={step}.")
        return None
    if rule.kind == "number" or any(isinstance(value, float) for value in (low, high, step)):
        return od.FloatDistribution(float(low), float(high), log=log, step=None if step is None else float(step))
    return od.IntDistribution(low, high, log=log, step=1 if step is None else step)


def _wrong_ends(rule: Rule, table: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the ends of a range, and with how it is drawn between them."""
    step, log = table.get("step"), table.get("log", False)
    wrong = [f"{end}: {problem}" for end in ("low", "high") if (problem := rule.end.wrong(table[end]))]
    if not isinstance(log, bool):
        wrong.append(f"log: true or false is needed, but it is {log!r}.")
    elif step is not None and log:
        wrong.append("step: cannot be used with log = true; leave one of them out.")
    elif step is not None and (problem := rule.step.wrong(step)):
        wrong.append(f"step: {problem}")
    elif log and not wrong and table["low"] <= 0:
        wrong.append(f"low: log = true needs a number above 0, but it is {table['low']!r}.")
    return wrong


def _divides(low: float, high: float, step: float) -> bool:
    count = (high - low) / step
    return math.isfinite(count) and math.isclose(count, round(count), rel_tol=1e-9, abs_tol=1e-9)


def _when(
    name: str, key: str, table: object, names: Names, known: Sequence[str], problems: list[str]
) -> dict[str, tuple[ParamValue, ...]]:
    if not isinstance(table, Mapping):
        problems.append(f'{key}.when: a table such as {{ freeze_mode = "none" }} is needed, but it is {table!r}.')
        return {}
    conditions = {}
    for other, values in table.items():
        if other not in known or other == name:
            others = ", ".join(one for one in known if one != name)
            problems.append(f"{key}.when.{other}: another parameter is needed: {others}.")
            continue
        rule = names.rule(other)
        allowed = values if isinstance(values, list) else [values]
        wrong = [problem for value in allowed if (problem := rule.wrong(value))]
        problems += [f"{key}.when.{other}: {problem}" for problem in wrong]
        if not allowed:
            problems.append(f"{key}.when.{other}: at least one value is needed.")
        if not wrong:
            conditions[other] = tuple(rule.stored(value) for value in allowed)
    return conditions


def _ordered(found: dict[str, tuple[Alternative, ...]], problems: list[str]) -> dict[str, tuple[Alternative, ...]]:
    """Order the parameters so that conditions look back only, and check that one alternative holds in every case."""
    needs = {name: {other for a in alternatives for other in a.when} for name, alternatives in found.items()}
    ordered: dict[str, tuple[Alternative, ...]] = {}
    while len(ordered) < len(found):
        ready = [name for name in found if name not in ordered and needs[name] <= ordered.keys()]
        if not ready:
            circle = ", ".join(name for name in found if name not in ordered)
            problems.append(f"parameters: the conditions of {circle} depend on each other in a circle.")
            return {}
        ordered.update((name, found[name]) for name in ready)
    for name in ordered:
        _check_conditions(name, ordered, sorted(needs[name]), problems)
    return ordered


def _check_conditions(
    name: str, space: dict[str, tuple[Alternative, ...]], needs: list[str], problems: list[str]
) -> None:
    possible = {other: _values(space[other]) for other in needs}
    for other, values in possible.items():
        if values is None:
            problems.append(
                f"parameters.{name}.when.{other}: {other} is a range; conditions need choices or a constant."
            )
            return
        named = {value for a in space[name] for value in a.when.get(other, ())}
        problems += [
            f"parameters.{name}.when.{other}: {other} is never {value!r}; it can be {list(values)}."
            for value in sorted(named - set(values), key=str)
        ]
    for case in _cases(possible):
        holds = len(holding(space[name], case))
        shown = ", ".join(f"{key} = {value!r}" for key, value in case.items()) or "always"
        if holds == 0:
            problems.append(f"parameters.{name}: no alternative holds where {shown}; add one.")
        elif holds > 1:
            problems.append(f"parameters.{name}: {holds} alternatives hold where {shown}; one must.")


def _cases(possible: Mapping[str, tuple[ParamValue, ...] | None]) -> Iterator[dict[str, ParamValue]]:
    names = list(possible)
    for values in itertools.product(*(possible[name] or () for name in names)):
        yield dict(zip(names, values, strict=True))


def _values(alternatives: tuple[Alternative, ...]) -> tuple[ParamValue, ...] | None:
    """Return every value that a parameter of choices can have; None for a range."""
    values: dict[ParamValue, None] = {}
    for alternative in alternatives:
        if not isinstance(alternative.distribution, od.CategoricalDistribution):
            return None
        values.update(dict.fromkeys(alternative.distribution.choices))  # type: ignore[arg-type] # checked values
    return tuple(values)


def _enqueue(
    entries: object, parameters: Mapping[str, tuple[Alternative, ...]], names: Names, problems: list[str]
) -> tuple[dict[str, ParamValue], ...]:
    if not isinstance(entries, list):
        problems.append("enqueue: a list of tables ([[enqueue]]) is needed.")
        return ()
    return tuple(_entry(f"enqueue[{index}]", entry, parameters, names, problems) for index, entry in enumerate(entries))


def _entry(
    key: str, entry: object, parameters: Mapping[str, tuple[Alternative, ...]], names: Names, problems: list[str]
) -> dict[str, ParamValue]:
    if not isinstance(entry, Mapping):
        problems.append(f"{key}: a table of parameters is needed, but it is {entry!r}.")
        return {}
    checked: dict[str, ParamValue] = {}
    for name, value in entry.items():
        if name not in parameters:
            problems.append(f"{key}.{name}: unknown; allowed are {', '.join(parameters)}.")
        elif problem := names.rule(name).wrong(value):
            problems.append(f"{key}.{name}: {problem}")
        else:
            checked[name] = names.rule(name).stored(value)
    for name, value in checked.items():
        fitting = [a for a in parameters[name] if _compatible(a, checked) and _contains(a.distribution, value)]
        if not fitting:
            ranges = " or ".join(_shown(a) for a in parameters[name])
            problems.append(f"{key}.{name}: {value!r} is not in the search space, which has {ranges}.")
    return checked


def _compatible(alternative: Alternative, values: Mapping[str, ParamValue]) -> bool:
    return all(name not in values or values[name] in allowed for name, allowed in alternative.when.items())


def _contains(distribution: Distribution, value: ParamValue) -> bool:
    if isinstance(distribution, od.CategoricalDistribution):
        return value in distribution.choices
    if isinstance(value, str) or not distribution.low <= value <= distribution.high:
        return False
    return distribution.step is None or _divides(distribution.low, value, distribution.step)


def _shown(alternative: Alternative) -> str:
    return ", ".join(f"{key} = {value}" for key, value in _describe(alternative).items() if key != "when")


def _describe(alternative: Alternative) -> dict[str, Any]:
    distribution = alternative.distribution
    described: dict[str, Any]
    if isinstance(distribution, od.CategoricalDistribution):
        described = {"choices": list(distribution.choices)}
    else:
        described = {"low": distribution.low, "high": distribution.high}
        if distribution.log:
            described["log"] = True
        elif distribution.step is not None and (
            isinstance(distribution, od.FloatDistribution) or distribution.step != 1
        ):
            described["step"] = distribution.step
    if alternative.when:
        described["when"] = {name: list(values) for name, values in alternative.when.items()}
    return described


def _smallest(distribution: Distribution) -> float:
    if isinstance(distribution, od.CategoricalDistribution):
        return min(value for value in distribution.choices if isinstance(value, int | float))
    return distribution.low


def _largest(distribution: Distribution) -> float:
    if isinstance(distribution, od.CategoricalDistribution):
        return max(value for value in distribution.choices if isinstance(value, int | float))
    return distribution.high
