"""Components that may be repeated: their options by number, in every form in which parameters are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aipcore.errors import ParamsError
from aipcore.params import (
    Choice,
    Layer,
    StaticChoices,
    at_least,
    component,
    components,
    field,
    from_dict,
    group,
    params,
    resolve,
    sections,
    to_dict,
    to_yaml,
)
from aipcore.params.files import read_mapping
from aipcore.params.resources import localized, planned_copies


@params
class Relu:
    """Rectified."""

    slope: float = field(0.0, help="Slope below zero.")


@params
class Tanh:
    """Hyperbolic tangent."""


@params
class Conv:
    """A convolution."""

    filters: int = field(8, help="Filters.", check=at_least(1))
    kernel_size: tuple[int, int] = field((3, 3), help="Kernel.")
    activation: Choice[Any] = component({"Relu": Relu, "Tanh": Tanh}, default="Relu", help="Activation.")


@params
class Pool:
    """A pooling."""

    size: int = field(2, help="Size.")


@params
class LSTM:
    """A recurrent layer."""

    units: int = field(16, help="Units.")
    weights: Path | None = field(None, help="Weights.", resource=True)
    token: str | None = field(None, help="Token.", secret=True)


LAYERS = {"Conv": Conv, "Pool": Pool, "LSTM": LSTM}


def parse(value: Any) -> Any:
    """Return the layers of a text such as `conv=4,pool`."""
    if not isinstance(value, str) or not {"=", ","} & set(value):
        return value
    made: list[Any] = []
    for name, _, number in (part.partition("=") for part in value.split(",")):
        made.append(Choice("Conv", Conv(filters=int(number))) if number else name)
    return made


@params
class Model:
    """A network."""

    layers: tuple[Choice[Any], ...] = components(
        LAYERS, default=(Choice("Conv", Conv(filters=40)), "Pool", "Conv", "LSTM"), repeat=True, help="Layers."
    )
    head: tuple[Choice[Any], ...] = components(LAYERS, repeat=True, convert=parse, help="Further layers.")
    parts: tuple[Choice[Any], ...] = components("part", default=("Conv",), repeat=True, help="Parts.")


@params
class Root:
    """All parameters."""

    model: Model = group(Model, help="The network.")


PARTS = StaticChoices({"part": LAYERS})


def made(*words: str, **files: Any) -> Model:
    """Return the network of a command line and a mapping."""
    layers = [Layer.from_mapping("file", files.get("file", {})), Layer.from_arguments(words)]
    return resolve(Root, layers, PARTS).value.model


def names(chosen: tuple[Choice[Any], ...]) -> str:
    """Return the names of choices."""
    return " ".join(each.name for each in chosen)


def test_defaults() -> None:
    """Defaults are names or choices with parameters, in an instance as in resolved parameters."""
    model = made()
    assert names(model.layers) == "Conv Pool Conv LSTM"
    assert [each.params.filters for each in model.layers if each.name == "Conv"] == [40, 8]
    assert model.head == ()
    assert model.parts == (Choice("Conv", Conv()),)
    assert Model().layers == model.layers


def test_command_line() -> None:
    """An option contains the number of its component, or a unique name."""
    model = made(
        "--model.layers", "conv", "Pool", "Conv", "--model.layers.3.filters", "60", "--model.layers.pool.size=3"
    )
    assert model.layers == (Choice("Conv", Conv()), Choice("Pool", Pool(size=3)), Choice("Conv", Conv(filters=60)))
    kept = made(
        "--model.layers.1.kernel-size", "5", "3", "--model.layers.LSTM.units", "7", "--model.layers.3.filters", "9"
    )
    assert kept.layers == (
        Choice("Conv", Conv(filters=40, kernel_size=(5, 3))),
        Choice("Pool", Pool()),
        Choice("Conv", Conv(filters=9)),
        Choice("LSTM", LSTM(units=7)),
    )
    assert made("--model.layers=").layers == made("--model.layers", "none").layers == ()
    inner = made("--model.layers.3.activation", "tanh", "--model.layers.1.activation.slope", "0.1")
    assert inner.layers[2].params.activation == Choice("Tanh", Tanh())
    assert inner.layers[0].params.activation == Choice("Relu", Relu(slope=0.1))
    assert names(made("--model.parts", "Pool", "pool").parts) == "Pool Pool"


def test_new_list_replaces_all_options() -> None:
    """No option of the former list is kept, not even one of a scenario."""
    defaults = Layer.of_scenario("s", {"model.layers.1.filters": 99, "model.layers.LSTM.units": 5})
    same = Layer.from_arguments(["--model.layers", "Conv", "Pool", "Conv", "LSTM"])
    assert resolve(Root, [defaults], PARTS).value.model.layers[0].params.filters == 99
    model = resolve(Root, [defaults, same], PARTS).value.model
    assert model.layers == tuple(Choice(name, LAYERS[name]()) for name in ("Conv", "Pool", "Conv", "LSTM"))


LISTED = "1 Conv, 2 Pool, 3 Conv, 4 LSTM"
WRONG = {
    "--model.layers Conv Cnov": "did you mean Conv?",
    "--model.layers Conv,Pool": "separate names with spaces: --model.layers Conv Pool.",
    "--model.layers.5.units 3": "--model.layers.5.units: model.layers has no component 5. Its components are: "
    f"{LISTED}.",
    "--model.layers.0.filters 3": f"model.layers has no component 0. Its components are: {LISTED}.",
    "--model.layers.filters 3": f"model.layers has no component filters. Its components are: {LISTED}.",
    "--model.head.1.units 3": "model.head has no component 1. Its components are: none.",
    "--model.layers.conv.filters 3": "model.layers has 2 components conv. Give a number: model.layers.1 or "
    "model.layers.3.",
    "--model.layers.2.units 3": "--model.layers.2.units belongs to LSTM, but model.layers.2 is Pool. Write "
    "--model.layers.4.units, or leave the option out.",
    "--model.layers Pool --model.layers.1.filters 3": "--model.layers.1.filters belongs to Conv, but model.layers.1 is "
    "Pool. Add Conv to --model.layers, or leave the option out.",
    "--model.layers.1.filter 3": "There is no option --model.layers.1.filter; did you mean --model.layers.1.filters",
    "--model.layers.3.filters 0": "--model.layers.3.filters: 0 is not allowed. It must be at least 1.",
    "--model.layers.2 3": "--model.layers.2 is a group of options, not an option. It contains --model.layers.2.size.",
    "--model.layers.4.units 3 --model.layers.LSTM.units 3": "--model.layers.4.units and --model.layers.LSTM.units are "
    "the same option.",
    "--model.layers": "--model.layers needs names. Write none, or one or more of Conv, Pool or LSTM.",
}


@pytest.mark.parametrize("line", WRONG)
def test_mistakes(line: str) -> None:
    """The error names the component at a number, and the options to write."""
    with pytest.raises(ParamsError) as caught:
        made(*line.split())
    assert WRONG[line] in str(caught.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model": {"layers": ["Conv", {"filters": 3}]}}, "file: model.layers: entry 2 has no name."),
        ({"model": {"layers": "Conv"}}, "file: model.layers: 'Conv' is not allowed. It must be a list of components."),
        ({"model": {"layers": {"7": {"filters": 3}}}}, "file: model.layers.7: model.layers has no component 7."),
        ({"model": {"layers": {"Conv": {"filters": 3}}}}, "file: model.layers.Conv: model.layers has 2 components"),
        ({"model.layers.1.units": 3}, "file: model.layers.1.units belongs to LSTM, but model.layers.1 is Conv. Write "
         "model.layers.4.units"),
        ({"model.layers": [{"name": "Conv", "filters": 3}], "model.layers.1.filters": 4}, "is given twice"),
        ({"model.layers": [{"name": "Conv", "filtres": 3}]}, "did you mean"),
    ],
)  # fmt: skip
def test_mistakes_in_files(values: dict[str, Any], sentence: str) -> None:
    """The same errors for files name the entry."""
    with pytest.raises(ParamsError) as caught:
        made(file=values)
    assert sentence in str(caught.value)


def test_files_and_python() -> None:
    """A list has names, mappings and choices; dotted names and mappings by number change entries."""
    wanted = (Choice("Conv", Conv(filters=3)), Choice("Conv", Conv(kernel_size=(1, 5))), Choice("LSTM", LSTM(units=4)))
    listed = ["conv", {"name": "Conv", "kernel_size": [1, 5]}, Choice("LSTM", LSTM(units=4))]
    for values in (
        {"model": {"layers": listed, "layers.1.filters": 3}},
        {"model.layers": listed, "model": {"layers": {"1": {"filters": 3}}}},
        {"model.layers": wanted},
    ):
        assert made(file=values).layers == wanted
    changed = made("--model.layers.LSTM.units", "5", file={"model.layers": list(wanted)})
    assert changed.layers == (*wanted[:2], Choice("LSTM", LSTM(units=5)))
    assert Model(layers=("conv", wanted[1])).layers == (Choice("Conv", Conv()), wanted[1])  # type: ignore[arg-type]
    for wrong in ("conv", ["Cnov"], [Conv()], [Choice("Conv", Pool())]):
        with pytest.raises(ParamsError):
            Model(layers=wrong)  # type: ignore[arg-type]


def test_wrong_default() -> None:
    """A default with other parameters is an error of the author."""
    with pytest.raises(ParamsError, match="the parameters of Conv must be Conv, not Pool"):
        components(LAYERS, default=(Choice("Conv", Pool()),), repeat=True, help="Layers.")


def test_text(tmp_path: Path) -> None:
    """Another form is converted, wherever it is given; names and lists stay allowed."""
    wanted = (Choice("Conv", Conv(filters=4)), Choice("Pool", Pool()), Choice("Conv", Conv(filters=6)))
    (tmp_path / "p.yaml").write_text("model: {head: 'conv=4,pool,conv=6'}")
    assert made("--model.head", "conv=4,pool,conv=6").head == wanted
    assert resolve(Root, [Layer.from_file(tmp_path / "p.yaml")], PARTS).value.model.head == wanted
    assert made(file={"model.head": "conv=4,pool,conv=6"}).head == wanted
    assert Model(head="conv=4,pool,conv=6").head == wanted  # type: ignore[arg-type]
    assert names(made("--model.head", "Pool", "Pool").head) == "Pool Pool"
    further = ("--model.head.1.kernel_size", "1", "5", "--model.head.pool.size", "5")
    changed = (Choice("Conv", Conv(filters=4, kernel_size=(1, 5))), Choice("Pool", Pool(size=5)))
    assert made("--model.head", "conv=4,pool", *further).head == changed
    for text in ("conv=0", "pool,cnov"):
        with pytest.raises(ParamsError, match=r"^--model\.head: "):
            made("--model.head", text)
    with pytest.raises(ParamsError, match="is given twice"):
        made("--model.head", "conv=4", "--model.head.1.filters", "5")


def test_round_trips(tmp_path: Path) -> None:
    """A mapping, JSON and YAML restore equal parameters; origins have numbers."""
    words = ["--model.layers.3.filters", "5", "--model.head", "conv=4,pool", "--model.parts", "Pool", "Pool"]
    done = resolve(Root, [Layer.from_arguments(words)], PARTS)
    plain = to_dict(done.value)
    assert json.loads(json.dumps(plain))["model"]["layers"][2]["name"] == "Conv"
    assert from_dict(Root, plain, PARTS) == done.value
    for shown in (True, False):
        (tmp_path / "p.yaml").write_text(to_yaml(done.tree, origins=shown))
        assert from_dict(Root, read_mapping(tmp_path / "p.yaml"), PARTS) == done.value
    places = ("layers", "layers.1.filters", "layers.3.filters", "parts")
    origins = [done.origins[f"model.{place}"] for place in places]
    assert origins == ["default", "default", "command line", "command line"]


def test_resources(tmp_path: Path) -> None:
    """Files of repeated components are copied, and found by number in a folder that was moved."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    words = ["--model.layers", "LSTM", "LSTM", "LSTM"]
    words += ["--model.layers.1.weights", str(tmp_path / "a"), "--model.layers.3.weights", str(tmp_path / "b")]
    value = resolve(Root, [Layer.from_arguments(words)], PARTS).value
    copies, sources = planned_copies(value)
    folder = tmp_path / "moved"
    (folder / "resources").mkdir(parents=True)
    for place, source in sources.items():
        (folder / place).write_text(source.read_text())
    back = from_dict(Root, localized(to_dict(value), copies, folder), PARTS).model.layers
    assert [each.params.weights and each.params.weights.read_text() for each in back] == ["a", None, "b"]
    for wrong in ("model.layers.4.weights", "model.layers.0.weights", "model.layers.x.weights"):
        with pytest.raises(ParamsError, match="is not a parameter"):
            localized(to_dict(value), {wrong: copies["model.layers.1.weights"]}, folder)


def test_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of a repeated component is not recorded, and comes from a variable with its number."""
    done = made("--model.layers.4.token", "abc")
    assert to_dict(done)["layers"][3]["token"] == "***"
    monkeypatch.setenv("AIP_SECRET_MODEL_LAYERS_4_TOKEN", "abc")
    assert from_dict(Root, {"model": to_dict(done)}, PARTS).model == done


def test_help() -> None:
    """Each component has a section with its number and name."""
    words = ["--model.layers", "Conv", "Pool", "Conv", "--model.layers.3.filters", "9"]
    found = {each.title: each for each in sections(resolve(Root, [Layer.from_arguments(words)], PARTS).tree)}
    assert list(found)[:4] == [
        "model.layers",
        "model.layers.1: Conv",
        "model.layers.1.activation: Relu",
        "model.layers.2: Pool",
    ]
    option = found["model.layers"].options[0]
    assert (option.metavar, option.default, [name for name, _ in option.choices]) == (
        "NAME ...",
        "Conv Pool Conv",
        ["Conv", "Pool", "LSTM"],
    )
    filters = found["model.layers.3: Conv"].options[0]
    assert (filters.name, filters.default, filters.origin) == ("model.layers.3.filters", "9", "command line")


def test_without_repeat_nothing_changes() -> None:
    """Other lists of components still refuse a repeated name and select options by name."""

    @params
    class Once:
        """Components that are chosen once."""

        lines: tuple[Choice[Any], ...] = components(LAYERS, default=("Pool",), help="Lines.")

    with pytest.raises(ParamsError, match="named twice"):
        resolve(Once, [Layer.from_arguments(["--lines", "Pool", "pool"])])
    assert from_dict(Once, {"lines": {"Conv": {"filters": 2}}}).lines == (Choice("Conv", Conv(filters=2)),)
    with pytest.raises(ParamsError):
        resolve(Once, [Layer.from_arguments(["--lines.1.size", "3"])])
