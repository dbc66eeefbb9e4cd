"""`aip resume` in separate processes: resumed runs, refused ones, and files that stay unchanged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forks
import pytest

from aipcore.training.checkpoint.format import find_newest, newest_checkpoint, read_checkpoint

ROOT = Path(__file__).parents[2]
AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]
Aip = Callable[..., "subprocess.CompletedProcess[str]"]


def aip(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `aip` in a folder."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return forks.run([*AIP, *words], cwd=folder, env=environment)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run of two epochs."""
    folder = tmp_path_factory.mktemp("finished")
    words = ["--trainer.epochs", "2", "--trainer.output_dir", "out", "--callbacks", "CSVLog", "--checkpoint.keep", "9"]
    done = aip(folder, "train", "tutorial", *words)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file of a folder with its time and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def edit(file: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


REFUSED: list[tuple[list[str], str]] = [
    ([], "Name a run folder: aip resume DIR. aip resume --help shows the options."),
    (["nowhere"], "nowhere does not exist. Pass a run folder, its checkpoint folder, or one checkpoint."),
    (["."], ". is not a run folder, but contains run. Pass a run folder, its checkpoint folder, or one checkpoint."),
    (["--trainer.epochs", "3"], "The folder comes first: aip resume DIR --trainer.epochs 3"),
    (["run", "--trainer.epoch", "3"], "There is no option --trainer.epoch; did you mean"),
    (
        ["run", "--model.graph", "CNN"],
        "--model.graph cannot change from MLP to CNN when a run is resumed. The",
    ),
    (["run", "--model.graph.units", "7"], "--model.graph.units cannot change from [128] to [7] when a run is resumed"),
    (
        ["run", "--optimizer", "sgd"],
        "--optimizer cannot change from Adam to SGD when a run is resumed. The",
    ),
    (["run", "--trainer.precision", "float16"], "--trainer.precision cannot change from float32 to float16"),
    (["run", "--trainer.random_seed", "5"], "--trainer.random_seed cannot change from"),
    (["run", "--trainer.calc_ema", "0.9"], "--trainer.calc_ema cannot change from 0.0 to 0.9"),
    (["run", "--trainer.output_dir", "x"], "--trainer.output_dir cannot change from run to x when a run is resumed"),
    (["run", "--train.batch_size", "0"], "--train.batch_size: 0 is not allowed. It must be at least 1."),
]

CODES = """
import contextlib, io, json, sys
from aipcore.cli.main import main
found = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        found.append([main(["resume", *words]), errors.getvalue()])
print(json.dumps([found, "tensorflow" in sys.modules]))
"""


def test_refused(run: Path) -> None:
    """An invalid request is refused in one sentence with exit code 2, without TensorFlow and without new files."""
    before = contents(run)
    words = json.dumps([words for words, _ in REFUSED])
    done = subprocess.run(
        [sys.executable, "-c", CODES, words], cwd=run.parent, capture_output=True, text=True, check=True
    )
    found, tensorflow = json.loads(done.stdout)
    assert not tensorflow
    for (code, errors), (_, message) in zip(found, REFUSED, strict=True):
        assert code == 2, message
        assert errors.startswith(f"error: {message}")
        assert errors.count("\n") == 1
    assert contents(run) == before


def test_help(run: Path) -> None:
    """The help shows the parameters of the run, and does not need TensorFlow."""
    code = "import sys; from aipcore.cli.main import main; main(); sys.exit('tensorflow' in sys.modules)"
    for words in (["resume", "--help"], ["resume", "run", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=run.parent, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "--trust" in done.stdout
    assert "[2, run/params.json]" in " ".join(done.stdout.split())


def test_nothing_to_do(run: Path) -> None:
    """A finished run is reported, with the option that would continue it."""
    before = contents(run)
    done = aip(run.parent, "resume", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "The run finished after 2 epochs. To train further, set more epochs, such as --trainer.epochs 4.\n"
    )
    done = aip(run.parent, "resume", "run", "--trainer.epochs", "1")
    assert done.stdout == (
        "The run already has 2 epochs, so --trainer.epochs 1 trains none. Set a larger total, for example "
        "--trainer.epochs 4.\n"
    )
    assert contents(run) == before


@pytest.mark.slow
def test_more_epochs_in_a_copy(finished: Path, run: Path) -> None:
    """A copy resumes in its own folder and records the changed options; the original stays unchanged."""
    before = contents(finished)
    done = aip(run.parent, "resume", "run", "--trainer.epochs", "4", "--learning_rate.lr", "0.01", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert contents(finished) == before
    about = json.loads((run / "run.json").read_text())
    params = json.loads((run / "params.json").read_text())
    assert about["params"] == params
    assert (params["trainer"]["epochs"], params["trainer"]["output_dir"]) == (4, "run")
    assert about["resumed"][0]["overrides"] == {
        "trainer.epochs": {"from": 2, "to": 4},
        "trainer.learning_rate.lr": {"from": 0.001, "to": 0.01},
    }
    assert len((run / "log.csv").read_text().splitlines()) == 5
    assert json.loads((run / "export" / "aip.json").read_text())["epoch"] == 4
    # After another resume, the first entry is still there.
    done = aip(run.parent / "run", "resume", ".", "--trainer.epochs", "5", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry["checkpoint"][-3:] for entry in json.loads((run / "run.json").read_text())["resumed"]] == [
        "182",
        "364",
    ]
    stored = read_checkpoint(newest_checkpoint(run / "checkpoint"))
    assert (stored.progress["epoch"], stored.progress["seed"]) == (5, about["seed"])


def test_a_chosen_checkpoint(run: Path) -> None:
    """Resuming an older checkpoint changes the course; newer ones are set aside and reported."""
    done = aip(run.parent, "resume", "run/checkpoint/step-0000000091")
    assert (done.returncode, done.stderr) == (0, "")
    aside = run / "checkpoint" / "aside"
    assert f"The newer checkpoint step-0000000182 was moved to {aside}." in done.stdout
    assert "Resuming from run/checkpoint/step-0000000091, after epoch 1." in done.stdout
    assert "Trained 1 more epoch (2 total) in " in done.stdout
    assert (aside / "step-0000000182").is_dir()
    assert newest_checkpoint(run / "checkpoint").name == "step-0000000182"


def test_damaged_newest(run: Path) -> None:
    """The checkpoint before a damaged one is used, both are reported, and a missing export is written again."""
    file = run / "checkpoint" / "step-0000000182" / "variables.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    shutil.rmtree(run / "export")
    done = aip(run.parent, "resume", "run/checkpoint")
    assert (done.returncode, done.stderr) == (0, "")
    assert "step-0000000182 is damaged (variables.npz does not match the manifest) and is set aside." in done.stdout
    assert "epoch 2/2" in done.stdout
    assert (run / "export").is_dir()


def test_killed_before_the_first_checkpoint(run: Path) -> None:
    """A claimed folder without a checkpoint starts from the beginning, with the recorded seed."""
    for name in ("checkpoint", "export", "best"):
        shutil.rmtree(run / name)
    seed = json.loads((run / "run.json").read_text())["seed"]
    done = aip(run.parent, "resume", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Starting from the beginning, because the run has no checkpoint yet." in done.stdout
    assert read_checkpoint(newest_checkpoint(run / "checkpoint")).progress["seed"] == seed
    assert len((run / "log.csv").read_text().splitlines()) == 3


def test_two_processes_for_one_run(run: Path) -> None:
    """A second process does not touch a run in progress, and a kill leaves no lock behind."""
    first = forks.start([*AIP, "resume", "run", "--trainer.epochs", "100000", "--quiet"], cwd=run.parent)
    before = newest_checkpoint(run / "checkpoint").name
    while first.poll() is None and getattr(find_newest(run / "checkpoint")[0], "name", before) == before:
        time.sleep(0.05)
    second = aip(run.parent, "resume", "run", "--trainer.epochs", "100000")
    assert second.returncode == 2
    assert second.stderr == "error: run is being written to by another process. Wait for it to end, or stop it.\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    epoch = read_checkpoint(newest_checkpoint(run / "checkpoint")).progress["epoch"]
    done = aip(run.parent, "resume", "run", "--trainer.epochs", str(epoch + 1), "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


EVIL = """
from pathlib import Path

Path("ran").touch()
from aipcore.scenario import Scenario


class Evil(Scenario):
    pass
"""


@pytest.mark.parametrize("kind", ["file", "module"])
def test_code_in_a_folder_needs_trust(run: Path, kind: str) -> None:
    """A folder whose scenario is a file or a module runs no code without trust."""
    evil = run / "evil.py"
    evil.write_text(EVIL)
    reference = {"file": f"{evil}:Evil", "module": "evil:Evil"}[kind]
    edit(
        run / "run.json",
        lambda about: about["scenario"].update(kind=kind, reference=reference, folder=str(run), name="evil"),
    )
    done = aip(run.parent, "resume", "run")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: run uses the scenario {kind} {reference}, and loading it runs its code. If you trust that code, "
        "add --trust.\n"
    )
    assert not (run.parent / "ran").exists()
    aip(run.parent, "resume", "run", "--trust")
    assert (run.parent / "ran").exists()


@pytest.mark.parametrize("name", ["evil:Evil", "evil.py", "os:path"])
def test_a_plugin_name_is_only_that(run: Path, name: str) -> None:
    """A folder with a module in place of a plugin name runs no code, trusted or not."""
    (run.parent / "evil.py").write_text(EVIL)
    edit(run / "run.json", lambda about: about["scenario"].update(name=name))
    done = aip(run.parent, "resume", "run", "--trust")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: run: The scenario {name} is not installed. Install aipcore==0.1.0, or enable the plugin if it is "
        "disabled.\n"
    )
    assert not (run.parent / "ran").exists()


HOSTILE: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "scenario in the parameters": ("params", lambda p: p.update(scenario="evil.py:Evil"), "scenario is unknown"),
    "data in the parameters": ("params", lambda p: p["data"].update(module="evil"), "module is unknown"),
    "code as callback": (
        "params",
        lambda p: p["trainer"].update(callbacks=[{"name": "evil:Evil"}]),
        "there is no callback 'evil:Evil'",
    ),
    "code as optimizer": (
        "params",
        lambda p: p["trainer"]["optimizer"].update(name="evil.py"),
        "there is no optimizer 'evil.py'",
    ),
    "code as component": (
        "run",
        lambda about: about["components"][0].update(kind="callback", name="evil:Evil"),
        "The callback evil:Evil of this run came from",
    ),
    "resource outside": (
        "run",
        lambda about: about.update(resources={"trainer.output_dir": "resources/../../evil.py"}),
        "is outside its resources folder",
    ),
    "resource behind a link": (
        "run",
        lambda about: about.update(resources={"trainer.output_dir": "resources/link.txt"}),
        "contains the symbolic link resources/link.txt",
    ),
    "folder as a number": (
        "run",
        lambda about: about["scenario"].update(reference=7),
        "is not a record of aip, or it is damaged",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_folder(run: Path, case: str) -> None:
    """A folder that names foreign code or files is refused in one sentence and runs no code, trusted or not."""
    (run.parent / "evil.py").write_text(EVIL)
    (run / "resources").mkdir()
    if case == "resource behind a link":
        (run / "resources" / "link.txt").symlink_to(run.parent / "evil.py")
    file, change, message = HOSTILE[case]
    edit(run / f"{file}.json", change)
    done = aip(run.parent, "resume", "run", "--trust", "--trainer.epochs", "3")
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (run.parent / "ran").exists()


@pytest.mark.slow
def test_file_scenario_from_elsewhere(tmp_path: Path) -> None:
    """A scenario given as a relative path is found from another working folder."""
    shutil.copy(ROOT / "examples" / "minimal_scenario.py", tmp_path / "mine.py")
    words = ["--trainer.epochs", "1", "--trainer.output_dir", "out", "--quiet"]
    assert aip(tmp_path, "train", "mine.py", *words).returncode == 0
    (tmp_path / "elsewhere").mkdir()
    done = aip(tmp_path / "elsewhere", "resume", "../out", "--trust", "--trainer.epochs", "2", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


LISTS = """
from pathlib import Path

import numpy as np

from aipcore.scenario import ListFileScenario, Sample


class Lines(ListFileScenario):
    \"\"\"Adds up the numbers of a file.\"\"\"

    def read(self, path, *, targets):
        values = np.array(Path(path).read_text().split(), np.float32)
        return Sample(inputs=values, targets=np.array([values.sum()], np.float32) if targets else None)

    def build(self, inputs):
        from keras import layers

        return layers.Dense(1)(inputs)

    def losses(self):
        import keras

        return keras.losses.MeanSquaredError()
"""


def test_relative_paths_from_elsewhere(tmp_path: Path) -> None:
    """Paths that are missing here are resolved from the folder in which the run was started, with a message."""
    home, away, copy = (tmp_path / name for name in ("home", "away", "copy"))
    (home / "data").mkdir(parents=True)
    (home / "lines.py").write_text(LISTS)
    for number in range(8):
        (home / "data" / f"{number}.txt").write_text(f"{number} 1 2")
    (home / "all.txt").write_text("".join(f"data/{number}.txt\n" for number in range(8)))
    words = ["--train.lists", "all.txt", "--val.lists", "data", "--train.batch_size", "4", "--trainer.random_seed", "1"]
    done = aip(home, "train", "lines.py", *words, "--trainer.epochs", "1", "--trainer.output_dir", "out")
    assert done.returncode == 0, done.stderr
    away.mkdir()
    shutil.copytree(home / "out", away / "out")
    shutil.copytree(home / "data", away / "data")
    done = aip(away, "resume", "out", "--trust", "--trainer.epochs", "2")
    assert (done.returncode, done.stderr) == (0, "")
    list_file = home / "all.txt"
    taken = f"all.txt (train.lists) is not in the current folder. {list_file} is read, since the run was started there."
    other = (
        f"data (val.lists) is read from the current folder. The run was started in {home}, where this path is a "
        "different file."
    )
    assert done.stdout.count(taken) == done.stdout.count(other) == 1
    recorded = json.loads((away / "out" / "run.json").read_text())
    assert recorded["params"]["train"]["lists"] == [str(list_file)]
    assert recorded["params"]["val"]["lists"] == ["data"]
    assert recorded["resumed"][0]["overrides"].keys() == {"trainer.epochs"}
    # A project that is moved as a whole finds its scenario and its data in the new place.
    home.rename(copy)
    done = aip(copy, "resume", "out", "--trust", "--trainer.epochs", "2")
    assert (done.returncode, done.stderr) == (0, "")
    moved = f"The scenario {home / 'lines.py'}:Lines no longer exists. {copy / 'lines.py'}:Lines is used instead."
    assert done.stdout.count("is used instead") == 1
    assert moved in done.stdout
    # From another folder, a model is scored on the data that its run named.
    done = aip(tmp_path, "lav", "copy/out", "--trust")
    assert done.returncode == 0, done.stderr
    assert f"data (val.lists) is not in the current folder. {copy / 'data'} is read" in done.stderr


LOOKAHEAD = ROOT / "examples" / "aip-plugin-lookahead" / "src"


def site_with_lookahead(folder: Path, version: str) -> Path:
    """Create a folder of installed packages with the example plugin."""
    shutil.copytree(LOOKAHEAD, folder)
    info = folder / "aip_plugin_lookahead.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: aip-plugin-lookahead\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[aip]\nlookahead = aip_plugin_lookahead\n")
    return folder


def test_missing_and_other_plugin(tmp_path: Path) -> None:
    """A missing plugin is named with its package and version; another version is a warning."""
    first = site_with_lookahead(tmp_path / "first", "1.0")
    words = ["--trainer.epochs", "1", "--trainer.output_dir", "out", "--quiet", "--optimizer", "Lookahead"]
    done = aip(tmp_path, "train", "tutorial", *words, path=first)
    assert done.returncode == 0, done.stderr
    done = aip(tmp_path, "resume", "out", "--trainer.epochs", "2")
    assert done.returncode == 2
    assert done.stderr == (
        "error: The optimizer Lookahead of this run came from aip-plugin-lookahead 1.0, which is not installed. "
        "Run pip install aip-plugin-lookahead==1.0.\n"
    )
    second = site_with_lookahead(tmp_path / "second", "2.0")
    done = aip(tmp_path, "resume", "out", "--trainer.epochs", "2", path=second)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "The optimizer Lookahead came from aip-plugin-lookahead 1.0 and now comes from aip-plugin-lookahead 2.0"
        in done.stdout
    )


def test_missing_callback_can_be_left_out(run: Path) -> None:
    """If a callback's plugin is missing, the run continues with other callbacks."""

    def change(about: Any) -> None:
        for each in about["components"]:
            if each["kind"] == "callback":
                each.update(name="Bell", package="aip-plugin-bell", version="3.1")

    edit(run / "run.json", change)
    edit(run / "params.json", lambda params: params["trainer"].update(callbacks=[{"name": "Bell", "loud": True}]))
    done = aip(run.parent, "resume", "run", "--trainer.epochs", "3")
    assert done.returncode == 2
    assert "came from aip-plugin-bell 3.1, which is not installed" in done.stderr
    assert "or give --trainer.callbacks without it" in done.stderr
    done = aip(run.parent, "resume", "run", "--trainer.epochs", "3", "--callbacks", "CSVLog", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


def test_early_stopping(tmp_path: Path) -> None:
    """A run that stopped early continues only if the stopping criterion changes."""
    words = ["--trainer.epochs", "9", "--trainer.output_dir", "out", "--early_stopping.upper_threshold", "0.1", "-q"]
    assert aip(tmp_path, "train", "tutorial", *words).returncode == 0
    done = aip(tmp_path, "resume", "out", "--trainer.epochs", "10")
    assert done.returncode == 0
    assert "stopped after epoch 1 (early stopping: val_accuracy" in done.stdout
    assert "To train further, change what stopped it" in done.stdout
    done = aip(tmp_path, "resume", "out", "--trainer.epochs", "2", "--early_stopping.upper_threshold", "2")
    assert done.returncode == 0
    assert "epoch 2/2" in done.stdout


@pytest.mark.slow
def test_kernels_of_the_run(run_aip, tmp_path):
    """A resumed run uses the CPU kernels of its start. Other kernels, chosen by the environment, cause a warning."""
    few = ("--train.limit", "64", "--val.limit", "16", "--trainer.tune", "off", "--trainer.epochs", "1",
           "--trainer.export_best", "False", "--trainer.export_final", "False")  # fmt: skip
    assert run_aip("train", "tutorial", "--trainer.output_dir", "run", *few, TF_ENABLE_ONEDNN_OPTS="0").returncode == 0
    record = tmp_path / "run" / "run.json"
    warning = "was trained with the CPU kernels of Eigen"
    for epochs, environment, kernels in ((2, {}, "Eigen"), (3, {"TF_ENABLE_ONEDNN_OPTS": "1"}, "oneDNN")):
        done = run_aip("resume", "run", "--trainer.epochs", str(epochs), **environment)
        assert done.returncode == 0
        assert (warning in done.stdout + done.stderr) == (kernels != "Eigen")
        assert json.loads(record.read_text())["versions"]["kernels"] == kernels
