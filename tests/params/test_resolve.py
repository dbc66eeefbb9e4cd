"""Resolving layers to one instance: precedence, components, short forms, strictness, and error messages."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from aipcore.errors import ParamsError
from aipcore.params import (
    REQUIRED,
    Choice,
    Layer,
    StaticChoices,
    above,
    at_least,
    component,
    components,
    field,
    fill,
    from_dict,
    group,
    params,
    resolve,
    to_dict,
    to_yaml,
)
from aipcore.params.files import read_mapping


class Colour(StrEnum):
    """An enum."""

    RED = "red"
    DARK_BLUE = "dark_blue"


@params
class Adam:
    """Adam."""

    epsilon: float = field(1e-7, help="Epsilon.", check=above(0))


@params
class RMS:
    """RMS."""

    rho: float = field(0.9, help="Rho.")
    epsilon: float = field(1e-6, help="Epsilon.")


@params
class Inner:
    """A small component."""

    depth: int = field(1, help="Depth.")


@params
class Outer:
    """A component that holds a component."""

    inner: Inner = component({"Inner": Inner}, default="Inner", help="Inner.")


@params
class Plain:
    """A component without options."""


@params
class Log:
    """A callback."""

    file: str = field("log.csv", help="File.")


@params
class Stop:
    """Another callback."""

    after: int = field(3, help="After.", check=at_least(1))


@params
class Trainer:
    """A group with short forms."""

    epochs: int = field(100, help="Epochs.", check=at_least(1))
    output_dir: Path | None = field(None, help="Output.")
    optimizer: Any = component("optimizer", default="Adam", help="Optimizer.", short=True)
    callbacks: tuple[Any, ...] = components("callback", help="Callbacks.", short=True)


@params
class Root:
    """The root of all parameters."""

    trainer: Trainer = group(Trainer, help="Trainer.")
    graph: Any = component({"Outer": Outer, "Plain": Plain}, default=None, help="Graph.")
    sizes: tuple[int, ...] = field((1, 2), help="Sizes.", check=at_least(0))
    pair: tuple[int, float] = field((1, 2.0), help="Pair.")
    flag: bool = field(False, help="Flag.")
    mode: Literal["fast", "exact"] = field("fast", help="Mode.")
    colour: Colour = field(Colour.RED, help="Colour.")
    table: dict[str, float] = field({}, help="Table.")
    rate: float = field(0.5, help="Rate.")


@params
class Needy:
    """Parameters with required fields."""

    source: Path = field(REQUIRED, help="Where from.")
    count: int = field(REQUIRED, help="How many.")
    rest: int = field(3, help="Rest.")


CHOICES = StaticChoices({"optimizer": {"Adam": Adam, "RMSprop": RMS}, "callback": {"CSVLog": Log, "Stop": Stop}})


def given(*words: str, file: Any = None, scenario: Any = None, root: type = Root) -> Any:
    """Resolve the usual layers."""
    layers = [Layer.of_scenario("s", scenario or {}), Layer.from_mapping("p.yaml", file or {})]
    return resolve(root, [*layers, Layer.from_arguments(words)], CHOICES)


def test_defaults() -> None:
    """Without layers, all fields have their defaults and components are created."""
    value = given().value
    assert value.trainer.optimizer == Choice("Adam", Adam())
    assert value.trainer.callbacks == ()
    assert value.graph is None
    assert value.sizes == (1, 2)


def test_precedence_and_origins() -> None:
    """The order is defaults, scenario, file, command line: later ones win, and each value has its origin."""
    done = given(
        "--trainer.epochs", "4", scenario={"trainer.epochs": 2, "rate": 0.1, "flag": True},
        file={"trainer": {"epochs": 3}, "rate": 0.2},
    )  # fmt: skip
    assert (done.value.trainer.epochs, done.value.rate, done.value.flag) == (4, 0.2, True)
    origins = done.origins
    assert origins["trainer.epochs"] == "command line"
    assert origins["rate"] == "p.yaml"
    assert origins["flag"] == "scenario s"
    assert origins["sizes"] == "default"


@pytest.mark.parametrize(
    ("words", "path", "expected"),
    [
        ("--trainer.epochs=7", "trainer.epochs", 7),
        ("--trainer.output-dir out", "trainer.output_dir", Path("out")),
        ("--trainer.output_dir none", "trainer.output_dir", None),
        ("--sizes 4 5 6", "sizes", (4, 5, 6)),
        ("--sizes=", "sizes", ()),
        ("--pair 3 -1.5e-3", "pair", (3, -0.0015)),
        ("--flag", "flag", True),
        ("--flag yes", "flag", True),
        ("--flag off", "flag", False),
        ("--mode EXACT", "mode", "exact"),
        ("--colour dark-blue", "colour", Colour.DARK_BLUE),
        ("--table a=1 b=-2", "table", {"a": 1.0, "b": -2.0}),
        ("--rate -3", "rate", -3.0),
        ("--optimizer rms-prop", "trainer.optimizer", Choice("RMSprop", RMS())),
        ("--trainer.optimizer RMSprop --optimizer.rho .5", "trainer.optimizer", Choice("RMSprop", RMS(rho=0.5))),
        ("--optimizer.epsilon 1e-14", "trainer.optimizer.params.epsilon", 1e-14),
        ("--trainer.optimizer.epsilon 1e-14", "trainer.optimizer.params.epsilon", 1e-14),
        ("--graph.inner.depth 9 --graph outer", "graph", Choice("Outer", Outer(inner=Choice("Inner", Inner(depth=9))))),
        (
            "--callbacks stop csv_log --callbacks.csvlog.file x",
            "trainer.callbacks",
            (Choice("Stop", Stop()), Choice("CSVLog", Log(file="x"))),
        ),
        ("--callbacks=", "trainer.callbacks", ()),
        ("--callbacks none", "trainer.callbacks", ()),
    ],
)
def test_command_line(words: str, path: str, expected: Any) -> None:
    """An option can be written in every documented form."""
    value = given(*words.split()).value
    for part in path.split("."):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)


def test_naming_a_component_replaces_its_options() -> None:
    """Options of a lower layer apply only to the component of that layer."""
    lower = {"optimizer": {"name": "Adam", "epsilon": 0.5}}
    assert given("--optimizer", "adam", file=lower).value.trainer.optimizer.params.epsilon == 1e-7
    assert given("--optimizer.epsilon", "2", file=lower).value.trainer.optimizer.params.epsilon == 2
    assert given(file={"optimizer.rho": 0.1, "optimizer": "rmsprop"}).value.trainer.optimizer.params == RMS(rho=0.1)
    done = given(file={"optimizer": {"epsilon": 0.25}}, scenario=lower)
    assert done.value.trainer.optimizer.params == Adam(epsilon=0.25)


@params
class Schedule:
    """The common base of all schedules."""

    lr: float = field(0.1, help="Rate.", check=at_least(0))
    span: Any = component({"Outer": Outer, "Plain": Plain}, default="Plain", help="Span.")


@params
class Slow(Schedule):
    """A schedule with an additional field."""

    length: int = field(5, help="Length.")


@params
class Fast(Schedule):
    """A schedule with a field of the same name and another default of an inherited one."""

    lr: float = field(0.2, help="Rate.", check=at_least(0.1))
    length: int = field(7, help="Another length.")


@params
class Scheduled:
    """A choice of related components."""

    schedule: Any = component({"Slow": Slow, "Fast": Fast}, default="Slow", help="Schedule.")


PLAIN = Choice("Plain", Plain())
DEEP = Choice("Outer", Outer(inner=Choice("Inner", Inner(depth=9))))

SCHEDULES: dict[str, tuple[dict[str, Any], str, Any, str]] = {
    "a field of the common class": ({"lr": 0.5}, "--schedule fast", Fast(lr=0.5, span=PLAIN), "scenario s"),
    "a value for the other": ({"lr": 0.5}, "--schedule fast --schedule.lr 3", Fast(lr=3, span=PLAIN), "command line"),
    "none that was set": ({}, "--schedule fast", Fast(lr=0.2, span=PLAIN), "default"),
    "one that is not allowed there": ({"lr": 0.01}, "--schedule fast", Fast(span=PLAIN), "default"),
    "a name alone": ({"length": 9}, "--schedule fast", Fast(span=PLAIN), "default"),
    "a component within": (
        {"span": {"name": "outer", "inner": {"depth": 9}}}, "--schedule fast",
        Fast(span=DEEP), "default",
    ),
    "the same component": ({"length": 9}, "--schedule slow", Slow(length=9, span=PLAIN), "default"),
    "there and back": ({"name": "fast", "lr": 0.5}, "--schedule slow", Slow(lr=0.5, span=PLAIN), "scenario s"),
}  # fmt: skip


@pytest.mark.parametrize("case", SCHEDULES)
def test_another_component_keeps_values_of_the_scenario(case: str) -> None:
    """Fields of the common class keep the scenario's values, unless a value is given for the new component."""
    scenario, words, expected, origin = SCHEDULES[case]
    done = given(*words.split(), scenario={"schedule": scenario}, root=Scheduled)
    assert done.value.schedule.params == expected
    assert done.origins["schedule.lr"] == origin
    assert done.origins["schedule"] == "command line"


def test_values_of_a_file_apply_to_its_component() -> None:
    """Values of a file apply only to the component that it names, while those of the scenario persist."""
    done = given("--schedule", "fast", scenario={"schedule.lr": 0.5}, file={"schedule": "Slow"}, root=Scheduled)
    assert (done.value.schedule.params.lr, done.origins["schedule.lr"]) == (0.5, "scenario s")
    done = given("--schedule", "fast", scenario={"schedule.lr": 0.5}, file={"schedule.lr": 0.7}, root=Scheduled)
    assert (done.value.schedule.params.lr, done.origins["schedule.lr"]) == (0.2, "default")


def test_a_record_keeps_the_origin_of_repeated_values() -> None:
    """A resumed run that selects another component keeps only the values of the scenario."""
    scenario = Layer.of_scenario("s", {"schedule.lr": 0.5})
    for lr, expected in ((0.5, 0.5), (0.7, 0.2)):
        record = Layer("params.json", {"schedule": {"name": "Slow", "lr": lr, "length": 5}}, repeats=True)
        layers = [scenario, record, Layer.from_arguments(["--schedule", "fast"])]
        assert resolve(Scheduled, layers).value.schedule.params.lr == expected


MINE = (Choice("CSVLog", Log(file="mine.csv")),)


def test_callbacks_named_again_keep_values_of_the_scenario() -> None:
    """Callbacks that are named again keep the scenario's values; others are removed."""
    scenario = {"callbacks": {"CSVLog": {"file": "mine.csv"}, "Stop": {"after": 9}}}
    assert given("--callbacks", "csv_log", scenario=scenario).value.trainer.callbacks == MINE
    assert given("--callbacks=", scenario=scenario).value.trainer.callbacks == ()
    assert given("--callbacks", "none", scenario=scenario).value.trainer.callbacks == ()


ERRORS = {
    "--epochs 3": "There is no option --epochs; did you mean --trainer.epochs 3?",
    "--trainer.epcohs 3": "There is no option --trainer.epcohs; did you mean --trainer.epochs?",
    "--xyz 3": "There is no option --xyz; --help all lists all options.",
    "--trainer 3": "--trainer is a group of options, not an option",
    "--optimizer.rho .5": "--optimizer.rho belongs to RMSprop, but the optimizer is Adam. Add --optimizer RMSprop, or",
    "--graph.inner.depth 3": "belongs to Outer, but the graph is none. Add --graph Outer",
    "--callbacks.stop.after 3": "--callbacks.stop.after belongs to Stop, which is not selected. Add --callbacks Stop.",
    "--callbacks stop stop": "The callback Stop is named twice. Name it once.",
    "--callbacks": "--callbacks needs names. Write none, or one or more of CSVLog or Stop.",
    "--optimizer": "--optimizer: an empty value is not allowed. It must be one of Adam or RMSprop.",
    "--optimizer adma": "There is no optimizer 'adma'; did you mean Adam?",
    "--trainer.epochs": "--trainer.epochs needs a value: --trainer.epochs INT.",
    "--callbacks none stop": "There is no callback 'none'; available: CSVLog, Stop.",
    "--trainer.epochs 1 2": "--trainer.epochs: 1 2 is not allowed. It must be a whole number, at least 1.",
    "--trainer.epochs 1.0": "--trainer.epochs: 1.0 is not allowed",
    "--trainer.epochs 0": "--trainer.epochs: 0 is not allowed. It must be at least 1.",
    "--sizes 3 -1": "--sizes: 3 -1 is not allowed. It must be at least 0.",
    "--pair 3": "--pair: 3 is not allowed. It must be 2 values",
    "--flag maybe": "--flag: maybe is not allowed. It must be true or false.",
    "--mode slow": "--mode: slow is not allowed. It must be fast or exact.",
    "--colour green": "--colour: green is not allowed. It must be red or dark_blue.",
    "--table a": "--table: a is not allowed. It must be entries KEY=VALUE",
    "--table a=1 a=2": "--table: a=1 a=2 is not allowed",
    "--rate nan": "--rate: nan is not allowed. It must be a number.",
    "--rate=": "--rate: an empty value is not allowed",
    "--rate 1 --rate 2": "--rate is given twice. Give it once, with all its values.",
    "--trainer..epochs 3": "There is no option --trainer..epochs; did you mean --trainer.epochs?",
    "--rate.x 1": "There is no option --rate.x; did you mean --rate?",
    "--rate 1 --rate.x 1": "There is no option --rate.x; did you mean --rate?",
    "--callbacks stop --callbacks.stop 3": "--callbacks.stop is a group of options, not an option. It",
    "--optimizer adam --trainer.optimizer adam": "are the same option. Give it once.",
    "--callbacks csvlog --callbacks.csvlog.file a --callbacks.csv_log.file b": "are the same option. Give it once.",
    "stray": "Unexpected argument 'stray'. Values follow an option: --OPTION stray.",
    "-trainer.epochs 3": "Unexpected argument '-trainer.epochs'. Values follow an option: --trainer.epochs.",
    "trainer.epochs=3": "Unexpected argument 'trainer.epochs=3'. Values follow an option: --trainer.epochs 3.",
}


@pytest.mark.parametrize("words", ERRORS)
def test_wrong_command_lines(words: str) -> None:
    """Each error names the option as written, the given value, and the allowed ones."""
    with pytest.raises(ParamsError) as error:
        given(*words.split())
    assert ERRORS[words] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"trainer": {"epochs": 1.0}}, "p.yaml: trainer.epochs: 1.0 is not allowed. It must be a whole number"),
        ({"trainer": {"epochs": True}}, "p.yaml: trainer.epochs: True is not allowed"),
        ({"trainer": {"epochs": "3"}}, "p.yaml: trainer.epochs: '3' is not allowed"),
        ({"trainer": 3}, "p.yaml: trainer: 3 is not allowed. It must be a mapping"),
        ({"trainer": {"epoch": 3}}, "p.yaml: trainer.epoch is unknown; did you mean epochs?"),
        (
            {"optimizer": {"name": "adam", "rho": 1}},
            "p.yaml: optimizer.rho belongs to RMSprop, but the optimizer is Adam. Write optimizer: RMSprop, or",
        ),
        ({"optimizer": 3}, "p.yaml: optimizer: 3 is not allowed. It must be one of Adam or RMSprop."),
        ({"optimizer": "adma"}, "p.yaml: optimizer: There is no optimizer 'adma'; did you mean Adam?"),
        ({"graph": {"inner": "Inner"}}, "p.yaml: graph has options but no name. Add the key name."),
        ({"callbacks": "Stop"}, "p.yaml: callbacks: 'Stop' is not allowed. It must be a list"),
        (
            {"callbacks": ["Stop", {"after": 3}]},
            "p.yaml: callbacks: entry 2 has no name. Write NAME or {name: NAME, OPTION: VALUE}.",
        ),
        ({"trainer.epochs": 3, "trainer": {"epochs": 4}}, "p.yaml: trainer.epochs is given twice"),
        ({"sizes": 3}, "p.yaml: sizes: 3 is not allowed. It must be a list"),
        ({"mode": "FAST"}, "p.yaml: mode: 'FAST' is not allowed"),
        (
            {"sizes": [3], "sizes.x": 4},
            "p.yaml: sizes.x is part of a value that is also given as a whole. Add it to that value.",
        ),
        ({"trainer": 3, "trainer.epochs": 4}, "p.yaml: trainer: 3 is not allowed. It must be a mapping"),
        (
            {"callbacks": ["stop"], "callbacks.stop.after_": 4},
            "p.yaml: callbacks.stop.after_ is unknown; did you mean after?",
        ),
        ({"graph": {"name": "Plain", "qqqq": 1}}, "p.yaml: graph.qqqq is unknown. graph has no parameters."),
        ({3: 4}, "p.yaml: the key 3 is not a name"),
    ],
)
def test_wrong_files(file: Any, message: str) -> None:
    """Files are strict: nothing is converted, and each error gives the path of the key."""
    with pytest.raises(ParamsError) as error:
        given(file=file)
    assert message in str(error.value)


def test_required() -> None:
    """All missing values are in one error; help can still be requested."""
    with pytest.raises(ParamsError) as error:
        given(root=Needy)
    assert str(error.value) == "These parameters are required: --source (Where from), --count (How many)."
    assert given("--source", "a", "--count", "2", root=Needy).value == Needy(source=Path("a"), count=2)
    assert fill(Needy, []).children["rest"].value == 3  # type: ignore[union-attr]


def test_round_trips(tmp_path: Path) -> None:
    """A mapping, a JSON file and a YAML file restore an equal instance."""
    done = given(
        "--optimizer", "rmsprop", "--optimizer.epsilon", "1e-17", "--callbacks", "stop", "--graph", "outer",
        "--table", "a=1e-30", "--sizes=", "--colour", "dark_blue", "--trainer.output_dir", "a b: c #d",
    )  # fmt: skip
    plain = to_dict(done.value)
    assert from_dict(Root, plain, CHOICES) == done.value
    for origins in (True, False):
        (tmp_path / "p.yaml").write_text(to_yaml(done.tree, origins=origins))
        assert from_dict(Root, read_mapping(tmp_path / "p.yaml"), CHOICES) == done.value


@params
class Drawn:
    """Parameters with components from mappings, in which two names share a class."""

    curve: Choice[Inner] = component({"Inner": Inner, "Other": Inner}, default="Inner", help="Curve.")
    lines: tuple[Choice[Any], ...] = components({"Log": Log, "Stop": Stop}, default=("Stop",), help="Lines.")
    extra: Choice[Inner] | None = component({"Inner": Inner}, default=None, help="Extra.")


def test_components_in_python() -> None:
    """An instance created in Python holds choices like a resolved one, and is written under their names."""
    assert Drawn() == resolve(Drawn, []).value
    made = Drawn(curve="other", lines=[Choice("log", Log(file="x"))], extra=Choice("Inner", Inner(depth=2)))  # type: ignore[arg-type]
    assert (made.curve, made.lines) == (Choice("Other", Inner()), (Choice("Log", Log(file="x")),))
    assert from_dict(Drawn, to_dict(made)) == made


@pytest.mark.parametrize(
    "values",
    [
        {"curve": Inner(depth=3)},
        {"curve": None},
        {"curve": "Innre"},
        {"curve": Choice("Inner", Log())},
        {"lines": Choice("Log", Log())},
        {"lines": ("Log", "log")},
    ],
)
def test_wrong_components_in_python(values: Any, refused: Any) -> None:
    """The error gives the correct form."""
    with refused(ParamsError):
        Drawn(**values)
    with refused(ParamsError):
        Trainer(optimizer="Adam")


def test_choices_in_a_mapping(refused: Any) -> None:
    """Python code can give a choice as an object, beside dotted options and names."""
    values = {
        "optimizer": Choice("rmsprop", RMS(rho=0.1)),
        "callbacks": [Choice("Stop", Stop(after=7)), "csv-log"],
        "callbacks.CSVLog.file": "mine.csv",
    }
    made = given(file=values).value.trainer
    assert made.optimizer == Choice("RMSprop", RMS(rho=0.1))
    assert made.callbacks == (Choice("Stop", Stop(after=7)), Choice("CSVLog", Log(file="mine.csv")))
    twice = {"optimizer": Choice("rmsprop", RMS(rho=0.1)), "optimizer.rho": 0.2}
    for wrong in ({"optimizer": RMS()}, {"callbacks": [Log()]}, twice):
        with refused(ParamsError):
            given(file=wrong)


def test_short_forms_may_not_clash(refused: Any) -> None:
    """A short form that is also a group of the root is an error of the author."""

    @params
    class Clash:
        trainer: Trainer = group(Trainer)
        optimizer: Inner = group(Inner)

    with refused(ParamsError):
        resolve(Clash, [], CHOICES)


def test_fields_without_declaration_are_refused(refused: Any) -> None:
    """A bare default has no help: the error recommends field()."""
    with refused(ParamsError):

        @params
        class Bare:
            x: int = 3


def test_a_forgotten_decorator_is_named(refused: Any) -> None:
    """A class without `@params` would lose its fields as a group, base, component or root."""

    class Forgotten(Plain):
        units: int = field(3, help="Units.")

    class Changed(Inner):
        rate = 0.5

    class Annotated(Plain):
        units: int

    class Unrelated:
        units: int = field(3, help="Units.")

    for cls in (Forgotten, Annotated, Unrelated, Changed):
        with refused(ParamsError):
            resolve(cls, [])

        @params
        class Holder:
            inner: Any = group(cls, help="A group.")

        with refused(ParamsError):
            resolve(Holder, [])
        with refused(ParamsError):
            params(type("Heir", (cls,), {}))


def test_a_class_that_adds_no_field_needs_no_decorator() -> None:
    """A class that only changes its docstring, methods or constants loses nothing."""

    class Named(Plain):
        """Other words."""

        LIMIT = 3
        _cache = None

        def units(self) -> int:
            return self.LIMIT

    assert isinstance(resolve(Named, []).value, Named)


def test_a_plain_value_in_a_parameter_class_is_named(refused: Any) -> None:
    """A value without a type would not be a parameter; constants must be marked."""
    with refused(ParamsError):

        @params
        class Bad:
            units = 3

    @params
    class Good:
        UNITS = 3
        units: ClassVar[int] = 3

    assert Good.units == Good.UNITS


@params
class Length:
    """Parameters, one of which replaces another."""

    epochs: int | None = field(3, help="Epochs.")
    steps: int | None = field(None, help="Steps.", replaces=("epochs",))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([], (3, None)),
        ([{"steps": 7}], (None, 7)),
        ([{"epochs": 5}, {"steps": 7}], (None, 7)),
        ([{"steps": 7, "epochs": 5}], (5, 7)),
        ([{"steps": 7}, {"epochs": 5}], (5, 7)),
        ([{"steps": 7}, {"steps": None, "epochs": 2}], (2, None)),
        ([{"epochs": 5}, {"steps": None}], (5, None)),
    ],
)
def test_a_field_that_replaces_another(layers: list[dict[str, Any]], expected: tuple[int | None, int | None]) -> None:
    """A value replaces the other field, unless the same or a later layer sets that too."""
    found = resolve(Length, [Layer.from_mapping(f"layer {n}", each) for n, each in enumerate(layers)])
    assert (found.value.epochs, found.value.steps) == expected
    # The record resolves to the same values.
    assert resolve(Length, [Layer.from_mapping("record", to_dict(found.value))]).value == found.value
    if expected == (None, 7):
        assert found.origins["epochs"] == found.origins["steps"] == f"layer {len(layers) - 1}"


def test_a_field_can_only_replace_a_field() -> None:
    """An unknown name is an error of the author."""
    wrong = params(type("Wrong", (), {"n": field(1, help="N.", replaces=("m",)), "__annotations__": {"n": int}}))
    with pytest.raises(ParamsError, match="replaces 'm', which is not a field"):
        resolve(wrong, [])
