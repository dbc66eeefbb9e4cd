"""Lists of components that may be repeated keep their values in every form in which they are written."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipcore.params import (
    Choice,
    Layer,
    component,
    components,
    field,
    from_dict,
    params,
    resolve,
    to_dict,
    to_json,
    to_yaml,
)
from aipcore.params.tree import components as component_nodes
from aipcore.params.tree import leaves
from aipcore.testing.values import words_of


@params
class Small:
    """A component of a component."""

    depth: int = field(1, help="Depth.")


@params
class Wide:
    """Numbers, texts and an inner list."""

    sizes: tuple[int, ...] = field((1, 2), help="Sizes.")
    text: str = field("x", help="Text.")
    inner: tuple[Choice[Any], ...] = components({"Small": Small}, repeat=True, help="Inner.")


@params
class Thin:
    """A number and a choice."""

    rate: float = field(0.5, help="Rate.")
    shape: Choice[Any] | None = component({"Small": Small}, default=None, help="Shape.")


@params
class Root:
    """All parameters."""

    layers: tuple[Choice[Any], ...] = components(
        {"Wide": Wide, "Thin": Thin, "Other": Thin}, default=("Thin", "Wide", "Thin"), repeat=True, help="Layers."
    )


numbers = st.integers(-5, 5)
texts = st.text("ab1 =,.:-é", min_size=1, max_size=6).filter(lambda text: not text.startswith("--"))
small = st.builds(Small, depth=numbers)
inner = st.lists(small.map(lambda value: Choice("Small", value)), max_size=3).map(tuple)
wide = st.builds(Wide, sizes=st.lists(numbers, max_size=3).map(tuple), text=texts, inner=inner)
thin = st.builds(
    Thin,
    rate=st.floats(-10, 10, allow_nan=False),
    shape=st.none() | small.map(lambda value: Choice("Small", value)),
)
layer = wide.map(lambda value: Choice("Wide", value)) | st.tuples(st.sampled_from(["Thin", "Other"]), thin).map(
    lambda pair: Choice(*pair)
)
roots = st.builds(Root, layers=st.lists(layer, max_size=5).map(tuple))


@settings(max_examples=25, derandomize=True, database=None, deadline=None)
@given(roots)
def test_round_trips(tmp_path_factory: pytest.TempPathFactory, value: Root) -> None:
    """A mapping, JSON, YAML, Python with dotted names, and the command line restore equal parameters."""
    plain = to_dict(value)
    done = resolve(Root, [Layer.from_mapping("values", plain)])
    assert done.value == value
    assert from_dict(Root, json.loads(to_json(plain))) == value
    file = tmp_path_factory.getbasetemp() / "layers.yaml"
    file.write_text(to_yaml(done.tree), encoding="utf-8")
    assert resolve(Root, [Layer.from_file(file)]).value == value
    selected = {".".join(node.path): node.selected for node in component_nodes(done.tree)}
    words = [word for name, chosen in selected.items() for word in (f"--{name}", *(chosen or ["none"]))]
    words += [word for leaf in leaves(done.tree) for word in words_of(leaf, leaf.value)]
    assert resolve(Root, [Layer.from_arguments(words)]).value == value


@settings(max_examples=25, derandomize=True, database=None, deadline=None)
@given(roots, st.data())
def test_one_change(value: Root, data: st.DataObject) -> None:
    """An option changes the component with its number, and nothing else."""
    places = [number for number, each in enumerate(value.layers, 1) if each.name != "Wide"]
    if not places:
        return
    number = data.draw(st.sampled_from(places))
    layers = [Layer.from_mapping("values", to_dict(value)), Layer.from_arguments([f"--layers.{number}.rate", "77"])]
    expected = list(value.layers)
    old = expected[number - 1]
    expected[number - 1] = Choice(old.name, attrs.evolve(old.params, rate=77.0))
    assert resolve(Root, layers).value.layers == tuple(expected)
