"""Checks of the parameter class of a plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from aipcore.errors import ParamsError
from aipcore.params import Layer, Resolved, fill, from_dict, resolve, to_dict, to_json, to_yaml
from aipcore.params.tree import COMPONENT_KEY, Group, Leaf, components, leaves
from aipcore.testing.registry import WITH_PARAMS, conformance_check
from aipcore.testing.results import CheckFailedError, require
from aipcore.testing.subject import Subject
from aipcore.testing.values import allowed_values, around, edge_values, formed, limits, words_of


@conformance_check(*WITH_PARAMS, light=True)
def parameters_can_be_created(subject: Subject) -> None:
    """The parameters can be created from their defaults, and from the declared `params` where there are none."""
    tree = fill(subject.params_class, [Layer.from_mapping("declared", subject.declared.params)], subject.manager)
    missing = [leaf.name for leaf in leaves(tree) if leaf.missing]
    require(not missing, f"no value for {', '.join(missing)}: declare one in `params` of AIP_TESTING")
    subject.params()
    reserved = subject.kind != "scenario" and COMPONENT_KEY in tree.children
    require(
        not reserved, f"{subject.params_class.__name__} has a field {COMPONENT_KEY!r}, which is reserved: rename it"
    )


@conformance_check(*WITH_PARAMS, needs=("parameters_can_be_created",), light=True)
def parameters_are_documented(subject: Subject) -> None:
    """The parameter class has a docstring, and each parameter has a sentence for `--help`."""
    cls = subject.params_class
    require((cls.__doc__ or "").strip(), f"{cls.__name__} has no docstring: describe the parameters in one sentence")
    for leaf in leaves(subject.resolved().tree):
        text = leaf.spec.help.strip()
        require(text.endswith((".", ":", "?", "!")), f"the help of {leaf.name} is not a sentence: {text!r}")


@conformance_check(*WITH_PARAMS, needs=("parameters_can_be_created",), light=True)
def parameters_round_trip(subject: Subject) -> None:
    """Parameters are equal after a round trip through a mapping, a JSON file, a YAML file and the command line."""
    for varied in _variations(subject):
        value, choices = varied.value, subject.manager
        plain = to_dict(value, reveal=True)
        _same(from_dict(subject.params_class, plain, choices), value, "to_dict and from_dict")
        texts = {".json": to_json(plain)}
        if not any(leaf.spec.secret for leaf in leaves(varied.tree)):
            texts[".yaml"] = to_yaml(varied.tree)
        for suffix, text in texts.items():
            path = subject.folder / f"params{suffix}"
            path.write_text(text, encoding="utf-8")
            back: Any = resolve(subject.params_class, [Layer.from_file(path)], choices).value
            _same(back, value, f"a {suffix} file")
        words = [word for leaf in leaves(varied.tree) for word in words_of(leaf, leaf.value)]
        line = Layer.from_arguments([*_chosen(varied.tree), *words])
        _same(resolve(subject.params_class, [line], choices).value, value, "the command line")


def _variations(subject: Subject) -> Iterator[Resolved[Any]]:
    """Yield the given parameters, then the parameters with every leaf changed to another allowed value."""
    first = subject.resolved()
    yield first
    for number in range(3):
        changed = {}
        for leaf in leaves(first.tree):
            others = [value for value in allowed_values(leaf) if value != leaf.value]
            if others:
                changed[leaf.name] = others[number % len(others)]
        if changed:
            yield subject.resolved(changed)


def _chosen(tree: Group) -> Iterator[str]:
    for node in components(tree):
        option = f"--{'.'.join(node.path)}"
        yield from (option, *node.selected) if node.chosen else (f"{option}=",) if node.several else (option, "none")


def _same(back: Any, value: Any, way: str) -> None:
    if back != value:
        raise AssertionError(f"{value} becomes {back} after a round trip through {way}")


@conformance_check(*WITH_PARAMS, needs=("parameters_can_be_created",), light=True)
def limits_hold(subject: Subject) -> None:
    """Every number in the description of a limit is effective: values just outside are refused."""
    for leaf in leaves(subject.resolved().tree):
        check = leaf.spec.check
        if check is None:
            continue
        name = leaf.name
        for limit in limits(leaf):
            values = [formed(leaf, value) for value in around(leaf, limit)]
            refused = [value for value in values if not check.accepts(value)]
            require(
                refused and len(refused) < len(values),
                f"the limit of {name} is described as {check.allowed!r}, but it {'refuses' if refused else 'accepts'} "
                f"{', '.join(str(value) for value in values)}",
            )
            for value in refused:
                _refused(subject, leaf, value)


def build_at_limits(subject: Subject, build: Callable[[Any], Any]) -> None:
    """Call `build` with each allowed value next to each limit, one at a time.

    Raises:
        CheckFailedError: `build` raises. The message names the parameter.
    """
    declared = Layer.from_mapping("declared", subject.declared.params)
    for leaf in leaves(subject.resolved().tree):
        for value in edge_values(leaf):
            line = Layer.from_arguments(words_of(leaf, value))
            params: Any = resolve(subject.params_class, [declared, line], subject.manager).value
            try:
                build(params)
            except Exception as error:
                raise CheckFailedError(
                    f"{leaf.name} = {value} is allowed, but build raises {type(error).__name__}: {error}"
                ) from error


def _refused(subject: Subject, leaf: Leaf, value: Any) -> None:
    name = leaf.name
    line = Layer.from_arguments(words_of(leaf, value))
    try:
        resolve(subject.params_class, [Layer.from_mapping("declared", subject.declared.params), line], subject.manager)
    except ParamsError as error:
        require(leaf.path[-1] in str(error), f"the error for {name} = {value} does not name the parameter: {error}")
    else:
        raise AssertionError(f"{name} = {value} is accepted, although it must be {leaf.spec.check.allowed}")  # type: ignore[union-attr]
