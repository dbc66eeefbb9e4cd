"""The help of a scenario: an overview for a first run, and the details of groups, words and everything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from aipcore.cli.main import main
from aipcore.cli.request import make_request, split_arguments
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import describe, fill, sections
from aipcore.training.params import run_params_class

Ask = Callable[..., str]

SCENARIOS = ("tutorial", "image_classification", "tabular_classification", "text_line_recognition")
FIRST = ("data.dataset", "data.shift", "data.files", "model.graph", "model.graph.dropout", "model.graph.units")
COMMON = (
    "trainer.epochs",
    "train.batch_size",
    "optimizer",
    "learning_rate",
    "learning_rate.lr",
    "early_stopping.n_to_go",
    "trainer.random_seed",
    "trainer.output_dir",
)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that runs `aip` at a width of 80 columns and returns its output."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def ask(*words: str, code: int = 0) -> str:
        assert main(words) == code
        output, errors = capsys.readouterr()
        return errors if code else output

    return ask


def options_in(text: str) -> list[str]:
    """Return the options that begin a line, in their order."""
    return re.findall(r"^  --([\w.]+)(?= |$)", text, re.MULTILINE)


def all_options(scenario: str) -> list[str]:
    """Return the names of all parameters of a scenario."""
    request = make_request(split_arguments([scenario], (), "train"), "train")
    tree = fill(request.root, request.layers, request.plugins)
    return [option.name for section in sections(tree) for option in section.options]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_all(ask: Ask, scenario: str) -> None:
    """`--help all` shows every parameter of a scenario once, with its value."""
    text = ask("train", scenario, "--help", "all")
    assert sorted(options_in(text)) == sorted(all_options(scenario))
    assert "Must be at least 1." in " ".join(text.split())
    assert "  AdaBelief " in text


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("topic", ["", "all"])
def test_width(ask: Ask, scenario: str, topic: str) -> None:
    """No line is longer than the terminal, except for a name with its values, which is never broken."""
    lines = ask("train", scenario, "--help", *topic.split()).splitlines()
    long = [line for line in lines if len(line) > 80]
    assert all(re.fullmatch(r"  --[\w.]+ \S+|  aip train .*", line) for line in long)
    names = all_options(scenario)
    assert all(name in names for line in lines for name in re.findall(r"^  --([\w]+\.[\w.]+)", line))
    if not topic:
        assert len(lines) <= 110


def test_the_first_screen(ask: Ask) -> None:
    """The first 40 lines have usage, examples, the scenario's own options and the common ones, with their values."""
    text = ask("train", "tutorial", "--help")
    first = text.splitlines()[:40]
    screen = " ".join(" ".join(first).split())
    assert first[0] == "Usage: aip train tutorial [OPTIONS] [PARAMETERS]"
    assert "  aip train tutorial" in first
    assert tuple(options_in("\n".join(first))) == FIRST + COMMON
    assert re.search(r"--trainer\.epochs INT [^\[]+\[20, set by tutorial\]", screen)
    assert "--model.graph MLP|CNN" in screen
    assert "Folder for all files of the run. [runs/SCENARIO-N]" in screen
    assert "PARAMETERS are the scenario's options, such as --trainer.epochs 5." in screen
    assert len(text.splitlines()) <= 90
    assert text.splitlines()[-1].startswith("Details and limits: aip train tutorial --help GROUP")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_overview_names_every_option(ask: Ask, scenario: str) -> None:
    """An option is in the overview by its full name or in the line of its group."""
    text = ask("train", scenario, "--help")
    rows = text.partition("More options, by group:\n")[2].partition("\n\n")[0]
    groups = {
        name: set(re.findall(r"\w+", names))
        for name, names in re.findall(r"^  (\w\S+)((?:.|\n    )+)", rows, re.MULTILINE)
    }
    shown = options_in(text)
    for name in all_options(scenario):
        group, _, last = name.rpartition(".")
        assert name in shown or last in groups.get(group, set()) or name in groups


def test_options_of_this_command_line(ask: Ask) -> None:
    """Options of a component that the command line chooses are shown, and so are options that it sets."""
    words = ("--trainer.optimizer", "adabelief", "--callbacks", "CSVLog", "--checkpoint.keep", "3")
    text = ask("train", "tutorial", *words, "--help")
    shown = options_in(text)
    assert "callbacks.CSVLog.file" in shown
    assert {"optimizer.rectify", "optimizer.beta_1", "checkpoint.keep", "checkpoint.on_error"} <= set(shown)
    assert "trainer.precision" not in shown
    assert re.search(r"\[3,\s+command\s+line\]", text)


@pytest.mark.parametrize(
    "words",
    [
        ("train", "tutorial", "--help"),
        ("train", "tutorial", "-h"),
        ("train", "--help", "tutorial"),
        ("train", "-h", "tutorial"),
        ("train", "tutorial", "--help", "--trainer.output_dir", "x"),
        ("train", "tutorial", "--help", "-q"),
    ],
    ids=" ".join,
)
def test_a_flag(ask: Ask, words: tuple[str, ...]) -> None:
    """`--help` without a topic may stand anywhere."""
    assert tuple(options_in(ask(*words)))[: len(FIRST)] == FIRST


@pytest.mark.parametrize(
    ("topic", "first", "options"),
    [
        ("trainer", "trainer: ", {"trainer.epochs", "trainer.precision"}),
        ("data", "data: ", {"data.dataset", "data.workers"}),
        ("model", "model.graph: MLP", {"model.graph", "model.graph.units"}),
        ("optimizer", "optimizer: Adam", {"optimizer", "optimizer.amsgrad"}),
        ("trainer.optimizer", "optimizer: Adam", {"optimizer", "optimizer.amsgrad"}),
        ("Optimizer", "optimizer: Adam", {"optimizer", "optimizer.amsgrad"}),
        ("early-stopping", "early_stopping: ", {"early_stopping.n_to_go", "early_stopping.frequency"}),
        ("export", "export.formats", {"export.formats"}),
        ("sgd", "optimizer: SGD", {"optimizer", "optimizer.nesterov"}),
        ("CSVLog", "callbacks.CSVLog: ", {"callbacks.CSVLog.file"}),
    ],
)
def test_groups(ask: Ask, topic: str, first: str, options: set[str]) -> None:
    """A group or a component is shown whole, and nothing else."""
    text = ask("train", "tutorial", "--help", topic)
    assert text.startswith(first)
    assert options <= set(options_in(text))
    assert len({name.split(".")[0] for name in options_in(text)}) == 1


def test_details(ask: Ask) -> None:
    """Details are limit, aliases, value with its origin, and a sentence for each choice."""
    text = " ".join(ask("train", "tutorial", "--early_stopping.patience", "3", "--help", "early_stopping").split())
    assert "Must be at least 1. Also: --early_stopping.patience. [3, command line]" in text
    assert re.search(r"^    CNN  \w+", ask("train", "tutorial", "--help=model.graph"), re.MULTILINE)


@pytest.mark.parametrize(
    ("topic", "options"),
    [
        ("trainer.epochs", {"trainer.epochs"}),
        ("trainer.seed", {"trainer.random_seed"}),
        ("patience", {"early_stopping.n_to_go", "callbacks.ReduceOnPlateau.patience"}),
        ("lr", {"learning_rate.lr"}),
        ("seed", {"trainer.random_seed"}),
        ("bs", {"train.batch_size"}),
        ("momentum", {"optimizer.momentum"}),
        ("json", {"json"}),
    ],
)
def test_words(ask: Ask, topic: str, options: set[str]) -> None:
    """A word finds options by name, alias, help or foreign name, also those of components that are not chosen."""
    found = set(re.findall(r"^  --([\w.]+)", ask("train", "tutorial", "--help", topic), re.MULTILINE))
    assert options <= found
    assert len(found) < 10


def test_options_of_other_components(ask: Ask) -> None:
    """An option of a component that is not chosen is shown with the command that describes the component."""
    text = " ".join(ask("train", "tutorial", "--help", "patience").split())
    assert "Option of ReduceOnPlateau; see aip plugins show ReduceOnPlateau." in text


def test_nothing_found(ask: Ask) -> None:
    """A word without a match is an error, with similar names if there are any."""
    error = ask("train", "tutorial", "--help", "optimizr", code=2)
    assert error == "error: No option of aip train tutorial matches 'optimizr'; did you mean optimizer?\n"
    assert "aip train tutorial --help lists the groups." in ask("train", "tutorial", "--help", "xyzzy", code=2)
    assert "There is no scenario 'trainer'" in ask("train", "--help", "trainer", code=2)


def test_required_parameters(ask: Ask, tmp_path: Path) -> None:
    """Required parameters of a scenario file are in the examples, among its own options."""
    file = tmp_path / "needy.py"
    file.write_text(
        "from pathlib import Path\n"
        "from aipcore.params import field, group, params\n"
        "from aipcore.scenario import DataParams, Scenario, ScenarioParams\n"
        "@params\nclass Data(DataParams):\n    'Data.'\n    source: Path = field(help='The file.')\n"
        "@params\nclass Params(ScenarioParams):\n    'Parameters.'\n    data: Data = group(Data, help='Data.')\n"
        "class Needy(Scenario):\n    'Needs a file.'\n    params_class = Params\n"
    )
    text = ask("train", str(file), "--help")
    assert f"  aip train {file} --data.source PATH\n" in text
    assert re.search(r"Options of needy:\n  --data\.source PATH +The file\. \[required\]\n", text)


def test_models(ask: Ask, tmp_path: Path) -> None:
    """Commands for a trained model show its own options first, without those that they do not accept."""
    scenario = {"name": "tutorial", "kind": "plugin", "reference": "tutorial", "folder": str(tmp_path)}
    about = {"format": 1, "scenario": scenario, "params": {}, "signature": {"inputs": {}, "outputs": {}}}
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "aip.json").write_text(json.dumps(about), encoding="utf-8")
    text = ask("lav", str(tmp_path), "--help")
    assert options_in(text)[:5] == ["data.dataset", "data.shift", "data.files", "val.batch_size", "lav.show_samples"]
    assert "train.batch_size" not in text
    assert {"val.limit", "lav.limit"} <= set(options_in(ask("lav", str(tmp_path), "--help", "limit")))
    assert "--format SavedModel|" in ask("export", str(tmp_path), "--help")
    assert "Must be at least 0" in " ".join(ask("export", str(tmp_path), "--help", "data.preload_mib").split())


def test_first_sentences_are_short() -> None:
    """The first sentence of the help of every built-in parameter fits beside its name."""
    plugins = get_plugin_manager()
    classes = [
        plugins.params_class(kind, entry.record.name)
        for kind in ("optimizer", "schedule", "callback", "exporter")
        for entry in plugins.of_kind(kind)
        if entry.plugin.is_own
    ]
    classes += [
        run_params_class(found[1].params_class) for found in map(plugins.find_scenario, SCENARIOS) if found is not None
    ]
    options = {option.help: option for cls in classes for option in describe(cls, plugins)}
    long = {option.name: option.summary for option in options.values() if len(option.summary) > 60}
    assert long == {}
