"""Bad input: one clear sentence, exit code 2, nothing written, and no import of TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import atexit, sys
atexit.register(lambda: print("IMPORTED", *sorted({"tensorflow", "keras", "numpy", "grain"} & set(sys.modules))))
from aipcore.cli.main import main
sys.exit(main())
"""


def aip(folder: Path, *words: str) -> tuple[int, str, str, set[str]]:
    """Run `aip` in a folder; return exit code, output, errors, and the heavy packages imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    output, _, imported = done.stdout.rpartition("IMPORTED")
    return done.returncode, output, done.stderr.strip(), set(imported.split())


CASES = {
    "no scenario": (("train",), "Name a scenario: aip train SCENARIO"),
    "unknown scenario": (("train", "tutorail"), "There is no scenario 'tutorail'. Did you mean tutorial?"),
    "option first": (("train", "--trainer.epochs", "3", "tutorial"), "The scenario comes first"),
    "unknown optimizer": (
        ("train", "tutorial", "--optimizer", "adabelif"),
        "There is no optimizer 'adabelif'; did you mean AdaBelief?",
    ),
    "option of another optimizer": (
        ("train", "tutorial", "--optimizer.rho", "0.8"),
        "--optimizer.rho belongs to RMSprop, but the optimizer is Adam. Add --optimizer RMSprop, or leave",
    ),
    "option of another graph": (
        ("train", "tutorial", "--model.graph.filters", "8"),
        "--model.graph.filters belongs to CNN, but the graph is MLP. Add --model.graph CNN",
    ),
    "misspelt option": (
        ("train", "tutorial", "--trainer.epcohs", "3"),
        "There is no option --trainer.epcohs; did you mean --trainer.epochs?",
    ),
    "option without its group": (
        ("train", "tutorial", "--epochs", "3"),
        "There is no option --epochs; did you mean --trainer.epochs 3?",
    ),
    "no number": (
        ("train", "tutorial", "--trainer.epochs", "three"),
        "--trainer.epochs: three is not allowed. It must be a whole number, or none, at least 1.",
    ),
    "negative": (("train", "tutorial", "--trainer.epochs", "-1"), "--trainer.epochs: -1 is not allowed"),
    "batch size 0": (("train", "tutorial", "--train.batch_size", "0"), "It must be at least 1."),
    "no boolean": (
        ("train", "tutorial", "--train.shuffle", "maybe"),
        "--train.shuffle: maybe is not allowed. It must be true or false.",
    ),
    "missing params file": (("train", "tutorial", "--params", "none.yaml"), "none.yaml cannot be read"),
    "malformed params file": (("train", "tutorial", "--params", "bad.yaml"), "not valid YAML at line 2, column"),
    "wrong type in params file": (
        ("train", "tutorial", "--params", "typed.json"),
        "typed.json: trainer.epochs: True is not allowed. It must be a whole number",
    ),
    "unknown key in params file": (("train", "tutorial", "--params", "key.yaml"), "did you mean epochs?"),
    "missing scenario file": (("train", "none.py"), "There is no scenario file none.py"),
    "syntax error": (("train", "broken.py"), "broken.py, line 2"),
    "two scenarios": (("train", "two.py"), "two.py:One or two.py:Two"),
    "no scenario in file": (("train", "empty.py"), "contains no scenario"),
    "failing import": (("train", "failing.py"), "ModuleNotFoundError: No module named 'surely_missing'"),
    "run exists": (
        ("train", "tutorial", "--trainer.output_dir", "taken"),
        "--trainer.output_dir taken already contains a run (train.log)",
    ),
    "output is a file": (("train", "tutorial", "--trainer.output_dir", "bad.yaml"), "bad.yaml is a file"),
    "given twice": (
        ("train", "tutorial", "--trainer.epochs", "3", "--trainer.epochs", "4"),
        "--trainer.epochs is given twice",
    ),
    "stray word": (("train", "tutorial", "extra"), "Unexpected argument 'extra'. Values follow an option"),
    "no value": (("train", "tutorial", "--trainer.output_dir"), "--trainer.output_dir needs a value"),
    "unknown callback": (("train", "tutorial", "--callbacks", "CSVLgo"), "did you mean CSVLog?"),
    "option of a callback not chosen": (
        ("train", "tutorial", "--callbacks.CSVLog.file", "x"),
        "belongs to CSVLog, which is not selected. Add --callbacks CSVLog.",
    ),
    "params of unknown scenario": (("params", "tutorail"), "Did you mean tutorial?"),
    "unknown command": (("trian",), "did you mean train?"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder with files that are wrong in various ways."""
    made = tmp_path_factory.mktemp("bad")
    scenario = "from aipcore.scenario import Scenario\nclass {}(Scenario):\n    pass\n"
    (made / "bad.yaml").write_text("trainer: [1\noptimizer: x\n")
    (made / "typed.json").write_text('{"trainer": {"epochs": true}}')
    (made / "key.yaml").write_text("trainer:\n  epoch: 3\n")
    (made / "broken.py").write_text("x = 1\ndef f(:\n")
    (made / "two.py").write_text(scenario.format("One") + scenario.format("Two"))
    (made / "empty.py").write_text("x = 1\n")
    (made / "failing.py").write_text("import surely_missing\n")
    (made / "taken").mkdir()
    (made / "taken" / "train.log").write_text("a run")
    return made


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input(folder: Path, case: str) -> None:
    """Bad input ends with one sentence and exit code 2, without TensorFlow and without new files."""
    words, message = CASES[case]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in str(path)}
    code, output, errors, imported = aip(folder, *words)
    assert message in errors
    assert errors.count("\n") == 0
    assert errors.startswith("error: ")
    assert "Traceback" not in errors + output
    assert code == 2
    assert imported == set()
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in str(path)}
    assert after == before


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("train", "--help"),
        ("train", "tutorial", "--help"),
        ("train", "tutorial", "--optimizer", "sgd", "--model.graph", "cnn", "--help"),
        ("params", "tutorial"),
        ("plugins", "list"),
        ("plugins", "show", "adabelief"),
        ("plugins", "show", "tutorial"),
    ],
    ids=" ".join,
)
def test_answers_without_tensorflow(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Help and lists import no heavy packages."""
    code, output, errors, imported = aip(tmp_path, *words)
    assert (code, errors) == (0, "")
    assert output.strip()
    assert imported == set()


def test_help_shows_this_command(tmp_path: Path) -> None:
    """The help shows the options and defaults of the given selection, including the scenario's defaults."""
    _, output, _, _ = aip(tmp_path, "train", "tutorial", "--optimizer", "rmsprop", "--train.batch_size", "8", "--help")
    text = " ".join(output.split())
    assert "--optimizer.rho" in text
    assert "--optimizer.beta_1" not in text
    assert "[20, set by tutorial]" in text
    assert "[8, command line]" in text


def test_params_can_be_read_back(tmp_path: Path) -> None:
    """The output of `aip params` is a file that resolves to the same values, with the origin of each beside it."""
    words = ("params", "tutorial", "--optimizer", "lion", "--optimizer.beta_2", "0.98", "--callbacks", "csvlog")
    _, first, _, _ = aip(tmp_path, *words)
    assert "beta_2: 0.98" in first
    assert "# command line" in first
    assert "# scenario tutorial" in first
    (tmp_path / "p.yaml").write_text(first)
    _, second, _, _ = aip(tmp_path, "params", "tutorial", "--params", "p.yaml")

    def values(text: str) -> list[str]:
        return [line.split(" #")[0].rstrip() for line in text.splitlines()]

    assert values(first) == values(second)
    _, as_json, _, _ = aip(tmp_path, *words, "--format", "json")
    (tmp_path / "p.json").write_text(as_json)
    _, third, _, _ = aip(tmp_path, "params", "tutorial", "--params", "p.json")
    assert values(first) == values(third)
