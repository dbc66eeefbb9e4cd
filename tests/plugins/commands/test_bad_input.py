"""Bad input that `aip sweep` refuses before it computes or writes anything."""

from __future__ import annotations

import sys

import pytest

SPACE = ("--space", "optimizer.epsilon=log:1e-9..1e-5")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Name a scenario: aip sweep SCENARIO"),
        (("tutorial",), "There are no hyperparameters to search. Add --space NAME=LO..HI"),
        (("tutoral", *SPACE), "Did you mean tutorial?"),
        (("tutorial", "--space"), "--space needs a value"),
        (("tutorial", "--space", "optimizer.epsilonn=1..2"), "did you mean --optimizer.epsilon?"),
        (("tutorial", *SPACE, "--trials", "0"), "--trials: 0 is not allowed. It must be a whole number, at least 1."),
        (("tutorial", *SPACE, "--timeout", "soon"), "--timeout: soon is not allowed"),
        (("tutorial", *SPACE, "--sampler", "tpee"), "--sampler: tpee is not allowed; did you mean tpe?"),
        (("tutorial", *SPACE, "--sampler", "grid"), "has infinitely many values, but a grid needs"),
        (("tutorial", *SPACE, "--pruner", "fast"), "It must be median, hyperband or none."),
        (("tutorial", *SPACE, "--monitor", "val_loss"), "Write min:NAME or max:NAME"),
        (
            ("tutorial", *SPACE, "--monitor", "min:accuracy", "--trainer.monitor", "max:accuracy"),
            "--monitor min:accuracy and --trainer.monitor max:accuracy contradict each other",
        ),
        (("tutorial", *SPACE, "--storage", "sqlite:///a.db"), "--storage URL and --study NAME belong together"),
        (("tutorial", *SPACE, "--trainer.output_dir", "x"), "Use --sweep_dir, the folder of all trials"),
        (("tutorial", *SPACE, "--device.strategy", "multi_worker"), "A trial trains on one host"),
        (("tutorial", *SPACE, "--trainer.folds", "3"), "A trial is one run, not a cross-validation"),
        (("tutorial", *SPACE, "--trainer.epoch", "3"), "did you mean --trainer.epochs?"),
        (("tutorial", *SPACE, "--trust"), "--trust needs --resume DIR"),
        (("tutorial", "--resume", "here"), "Leave out tutorial."),
        (("--resume", "here"), "is not the folder of a sweep: sweep.json is missing."),
        (("tutorial", *SPACE, "--sweep_dir", "site"), "is neither empty nor the folder of a sweep"),
    ],
)
def test_refused(words, message, fork_aip, site, tmp_path) -> None:
    """Bad input is refused in one sentence with exit code 2, without a sweep folder."""
    (site / "something").write_text("")
    done = fork_aip("sweep", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_help(fork_aip) -> None:
    """The help of a scenario has the options of the sweep and the scenario's parameters."""
    done = fork_aip("sweep", "tutorial", "--help")
    assert done.returncode == 0
    for word in ("--space", "--sampler", "--resume", "--trainer.epochs"):
        assert word in done.stdout
    assert "sweep" in fork_aip("--help").stdout


@pytest.mark.parametrize(
    "words", [("--help",), ("sweep", "--help"), ("sweep", "tutorial", "--space", "trainer.epochs=1")]
)
def test_nothing_heavy(words, run_python) -> None:
    """Neither TensorFlow nor Optuna is imported for help or bad input."""
    code = (
        "import sys; from aipcore.cli.main import main; main(sys.argv[1:]); "
        "print([name for name in ('tensorflow', 'keras', 'numpy', 'optuna', 'sqlalchemy') if name in sys.modules])"
    )
    assert run_python(code, *words).splitlines()[-1] == "[]"


def test_no_optuna(run_python) -> None:
    """Without Optuna, one sentence gives the command that installs it; nothing is written."""
    code = (
        "import importlib.util as util, sys; find = util.find_spec; "
        "util.find_spec = lambda name, *rest: None if name == 'optuna' else find(name, *rest); "
        "from aipcore.cli.main import main; print(main(sys.argv[1:]))"
    )
    assert "pip install 'aipcore[sweep]'" in run_python(code, "sweep", "tutorial", "--space", "trainer.epochs=1,2")


@pytest.fixture
def run_python(tmp_path):
    """Run Python code with words, and return all its output."""
    import subprocess

    def run(code: str, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )
        assert not (tmp_path / "runs").exists()
        return done.stderr + done.stdout

    return run
