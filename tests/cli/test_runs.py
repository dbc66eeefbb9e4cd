"""`aip runs`: runs on disk are listed, compared and deleted, whatever their folders contain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runs_on_disk import write_run

from aipcore.cli.main import main

Aip = Callable[..., str]

LISTED = """
import sys
RECORDS = ("run.json", "status.json", ".lock")
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from aipcore.cli.main import main
code = main(sys.argv[1:])
heavy = [name for name in ("tensorflow", "keras", "numpy", "tensorboard", "rich") if name in sys.modules]
binary = [path for path in opened if path.startswith("runs") and path.rpartition("/")[2] not in RECORDS]
print("imported:", *heavy, "opened:", *binary, file=sys.stderr)
sys.exit(code)
"""

HOLDER = """
import sys, time
from pathlib import Path
from aipcore.training.run_folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def aip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aip:
    """Return a function that runs `aip` in a folder of its own and returns its output, after a check of its code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")

    def aip(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        found = main(words)
        output = capsys.readouterr()
        assert found == code, output.err
        return output.out if code == 0 else output.err

    return aip


@pytest.fixture
def held() -> Iterator[Callable[[Path], None]]:
    """Return a function that locks a run folder in another process, as a running run does."""
    processes: list[subprocess.Popen[str]] = []

    def hold(folder: Path) -> None:
        command = [sys.executable, "-c", HOLDER, str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        processes.append(process)

    yield hold
    for process in processes:
        process.communicate("")


def test_states(aip: Aip, tmp_path: Path, held: Callable[[Path], None]) -> None:
    """Each state is recognized: a held lock, a recorded end, a kill before or during a resumed run, damage."""
    for state in ("finished", "stopped", "interrupted", "failed"):
        write_run(tmp_path / "runs" / state, state=state)
    write_run(tmp_path / "runs/killed", state="running", epochs=1)
    write_run(tmp_path / "runs/killed-later", trainer__epochs=9)
    write_run(tmp_path / "runs/running", state="running", epochs=2)
    held(tmp_path / "runs/running")
    write_run(tmp_path / "runs/no-params").joinpath("params.json").unlink()
    found = {each["path"]: each for each in json.loads(aip("runs", "--json"))}
    assert {Path(path).name: each["state"] for path, each in found.items()} == {
        "finished": "finished", "stopped": "stopped", "interrupted": "interrupted", "failed": "failed",
        "killed": "interrupted", "killed-later": "interrupted", "running": "running", "no-params": "damaged",
    }  # fmt: skip
    assert found["runs/failed"]["reason"] == "It broke."
    assert found["runs/no-params"]["reason"] == "params.json is missing"
    assert (found["runs/killed"]["epochs"], found["runs/killed"]["total"]) == (1, 3)
    assert found["runs/killed-later"]["total"] == 9
    assert "It broke." in aip("runs", "show", "runs/failed")


def test_runs_of_earlier_versions(aip: Aip, tmp_path: Path) -> None:
    """Without a recorded status, the models of a run tell its state and its best value."""
    write_run(tmp_path / "runs/old", state=None, best=0.75)
    (write_run(tmp_path / "runs/killed", state=None) / "export/aip.json").unlink()
    found = {Path(each["path"]).name: each for each in json.loads(aip("runs", "--json"))}
    assert found["old"]["state"] == "finished"
    assert (found["old"]["epochs"], found["old"]["best"], found["old"]["mode"]) == (3, 0.75, "max")
    assert found["killed"]["state"] == "interrupted"


def test_table(aip: Aip, tmp_path: Path) -> None:
    """The table shows the parameters that differ between the listed runs, the newest run first."""
    for number, (rate, optimizer) in enumerate([(0.1, "Adam"), (0.01, "SGD"), (0.1, "SGD")], 1):
        run = write_run(
            tmp_path / f"runs/digits-{number}",
            best=number / 10,
            trainer__learning_rate__lr=rate,
            trainer__optimizer={"name": optimizer, **({"momentum": 0.9} if optimizer == "SGD" else {})},
        )
        status = json.loads((run / "status.json").read_text())
        (run / "status.json").write_text(json.dumps(status | {"started": f"2026-11-0{number}T00:00:00+00:00"}))
    table = aip("runs")
    heading, *rows = [line.split() for line in table.splitlines()]
    assert heading == ["NAME", "STATE", "EPOCHS", "BEST", "val_accuracy", "AGE", "SIZE", "optimizer", "lr"]
    assert [row[0] for row in rows] == ["runs/digits-3", "runs/digits-2", "runs/digits-1"]
    assert rows[0][1:4] == ["finished", "3/3", "0.3"]
    assert [row[-2:] for row in rows] == [["SGD", "0.1"], ["SGD", "0.01"], ["Adam", "0.1"]]
    assert aip("runs", "-q", "--sort", "lr").split()[0] == "runs/digits-2"
    assert aip("runs", "-q", "--sort", "best").split() == [f"runs/digits-{number}" for number in (3, 2, 1)]
    assert aip("runs", "-q", "--sort", "best", "-r").split()[0] == "runs/digits-1"
    assert aip("runs", "-q", "-f", "lr=0.1", "-f", "optimizer=S*").split() == ["runs/digits-3"]
    assert aip("runs", "-q", "-f", "best<=0.2", "-f", "optimizer!=adam").split() == ["runs/digits-2"]
    assert aip("runs", "runs/digits-2", "-q").split() == ["runs/digits-2"]
    assert "'optimiser'" in aip("runs", "--sort", "optimiser", code=2)
    assert "Did you mean trainer.optimizer" in aip("runs", "--sort", "trainer.optimiser", code=2)
    assert "is not a condition" in aip("runs", "-f", "lr", code=2)
    assert "does not exist" in aip("runs", "nowhere", code=2)


def write_cross_validation(place: Path, folds: Path) -> None:
    """Write the records of a cross-validation to the folder of its folds."""
    write_run(place / "parent", trainer__folds=3)
    for name in ("run.json", "params.json", "train.log", ".lock"):
        (place / "parent" / name).rename(folds / name)
    about = json.loads((folds / "run.json").read_text())
    result = {"mean": {"loss": 0.5, "x": "\x1b"}, "deviation": {"loss": 0.25, "x": []}}
    (folds / "run.json").write_text(json.dumps({**about, "result": result}))


def test_groups(aip: Aip, tmp_path: Path, held: Callable[[Path], None]) -> None:
    """A sweep has one row with its best trial, folds have one with their mean; both can be opened."""
    sweep, folds = tmp_path / "runs/sweep", tmp_path / "runs/folds"
    for number, best in enumerate((0.25, 0.75, None)):
        write_run(sweep / f"trial-{number:04d}", best=best, state="failed" if best is None else "finished")
    (sweep / "sweep.json").write_text("{}")
    for number, best in enumerate((0.25, 0.5), 1):
        write_run(folds / f"fold-{number}", best=best, trainer__folds=3, trainer__fold=number)
    write_cross_validation(tmp_path, folds)
    found = {each["kind"]: each for each in json.loads(aip("runs", "--json"))}
    assert list(found) == ["folds", "sweep"] or list(found) == ["sweep", "folds"]
    assert (found["sweep"]["best"], found["sweep"]["total"], found["sweep"]["state"]) == (0.75, 3, "finished")
    assert (found["folds"]["best"], found["folds"]["epochs"], found["folds"]["total"]) == (0.375, 2, 3)
    assert found["folds"]["state"] == "interrupted"
    assert len(aip("runs", "-q", "--all").split()) == 5
    assert len(aip("runs", "runs/sweep", "-q").split()) == 3
    assert "2/3 folds" in aip("runs")
    held(folds)
    assert json.loads(aip("runs", "-f", "name=*folds", "--json"))[0]["state"] == "running"
    assert "is running" in aip("runs", "rm", "runs/folds", "--yes", code=2)
    assert "is a sweep" in aip("runs", "rm", "runs/sweep", "--yes", code=2)


def test_remove_folds(aip: Aip, tmp_path: Path) -> None:
    """A cross-validation is shown and deleted with all its folds."""
    folds = tmp_path / "folds"
    for number in (1, 2):
        write_run(folds / f"fold-{number}", trainer__folds=2, trainer__fold=number)
    write_cross_validation(tmp_path, folds)
    (folds / "notes.md").touch()
    assert "  loss  0.5 ± 0.25" in aip("runs", "show", "folds")
    aip("runs", "rm", "folds", "--keep-best", "--yes")
    for number in (1, 2):
        assert (folds / f"fold-{number}/best").is_dir()
        assert not (folds / f"fold-{number}/checkpoint").exists()
    assert len(json.loads(aip("runs", "folds", "--json"))) == 2
    assert "notes.md" in aip("runs", "rm", "folds", "--yes")
    assert [path.name for path in folds.iterdir()] == ["notes.md"]


def test_damage_and_hostile_content(aip: Aip, tmp_path: Path) -> None:
    """Damaged and hostile files make single runs damaged. Nothing outside the folder is read, nothing is executed."""
    secret = tmp_path / "outside"
    secret.mkdir()
    (secret / "run.json").write_text(json.dumps({"secret": 1}))
    runs = tmp_path / "runs"
    for name, content in {
        "cut": b'{"scenario": {"name": "di',
        "deep": b'{"params": ' + b"[" * 100_000,
        "nested": b'{"scenario": {"name": "a", "kind": "b", "reference": "c"}, "params": '
        + b'{"a": ' * 900
        + b"1"
        + b"}" * 900
        + b"}",
        "list": b"[]",
        "bytes": bytes(range(256)),
        "huge": b" " * (5 * 2**20),
        "number": b'{"params": {"n": ' + b"9" * 10_000 + b"}}",
        "\x1b[2Jname\n": json.dumps(
            {"scenario": {"name": "\x1b]0;x\x07", "kind": "", "reference": ""}, "params": {"a\x1b[1m": "\x9b31m\ud800"}}
        ).encode(),
    }.items():
        (write_run(runs / name) / "run.json").write_bytes(content)
    (write_run(runs / "linked") / "run.json").unlink()
    (runs / "linked/run.json").symlink_to(secret / "run.json")
    (runs / "loop").symlink_to(runs)
    (runs / "elsewhere").symlink_to(secret)
    os.mkfifo(write_run(runs / "pipe") / "wait")
    (runs / "pipe/status.json").unlink()
    os.mkfifo(runs / "pipe/status.json")
    (write_run(runs / "odd") / "status.json").write_text('{"state": "finished", "epochs": 1e999, "best": "x"}')
    (runs / "odd/best/aip.json").write_text('{"monitor": []}')
    text = aip("runs")
    assert not any(each in text for each in ("\x1b", "\x9b", "\x07", "\ud800"))
    found = {Path(each["path"]).name: each for each in json.loads(aip("runs", "--json"))}
    assert len(found) == 11
    assert {each["state"] for name, each in found.items() if name in ("cut", "deep", "list", "bytes", "huge")} == {
        "damaged"
    }
    assert found["linked"]["reason"] == "run.json: it is a symbolic link"
    assert found["pipe"]["state"] == "finished"
    assert found["odd"]["state"] == "interrupted"
    for name in found:
        assert "\x1b" not in aip("runs", "show", f"runs/{name}")


def test_compare(aip: Aip, tmp_path: Path) -> None:
    """Two runs are compared by their results, all differing parameters, and curves."""
    write_run(tmp_path / "a", epochs=3)
    write_run(tmp_path / "b", epochs=2, train__batch_size=32, model__units=[8, 8])
    write_run(tmp_path / "c", epochs=2, model__units=[4])
    rows = dict(line.split(None, 1) for line in aip("runs", "compare", "a", "b", "c").splitlines() if line)
    assert rows["train.batch_size"].split() == ["16", "32", "16"]
    assert rows["model.units"].split() == ["-", "8", "8", "4"]
    assert rows["epochs"].split() == ["3/3", "2/3", "2/3"]
    curve = aip("runs", "compare", "a", "b", "--metric", "loss").partition("(loss)")[2]
    assert "A" in curve
    assert "B" in curve
    assert "2 to 8 runs" in aip("runs", "compare", "a", code=2)
    assert "is not a run folder" in aip("runs", "compare", "a", str(tmp_path), code=2)


def test_remove(aip: Aip, tmp_path: Path, held: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are deleted after a question, except for running ones, other folders, links and foreign files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    for name in "abcde":
        write_run(tmp_path / name)
    held(tmp_path / "b")
    (tmp_path / "link").symlink_to(tmp_path / "c")
    (tmp_path / "project").mkdir()
    (tmp_path / "project/run.json").touch()
    for given, why in {
        "b": "is running",
        "link": "symbolic link",
        "project": "is not a run",
        "none": "not exist",
    }.items():
        assert why in aip("runs", "rm", "a", given, "--yes", code=2)
    assert (tmp_path / "a/run.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr("click.confirm", lambda text: "1 run (" not in text)
        assert "Nothing was deleted." in aip("runs", "rm", "a")
    assert (tmp_path / "a/run.json").exists()
    aip("runs", "rm", "a", "a/", "--yes")
    assert not (tmp_path / "a").exists()
    (tmp_path / "c/thesis.tex").touch()
    (tmp_path / "c/best").rename(tmp_path / "moved")
    (tmp_path / "c/best").symlink_to(outside)
    (tmp_path / "c/tensorboard/link").symlink_to(outside)
    assert "c still contains thesis.tex" in aip("runs", "rm", "c", "--yes")
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["thesis.tex"]
    assert (outside / "kept").exists()
    (tmp_path / "d/run.json").write_text("{")
    aip("runs", "rm", "d", "--yes")
    assert not (tmp_path / "d").exists()


def test_keep_best(aip: Aip, tmp_path: Path) -> None:
    """With `--keep-best`, the best model and the records remain. The run is listed, and cannot be resumed."""
    from aipcore.prediction.locate import find_model

    write_run(tmp_path / "a", state="interrupted", epochs=2)
    write_run(tmp_path / "no-best")
    (tmp_path / "no-best/best/aip.json").unlink()
    assert "has no best model" in aip("runs", "rm", "a", "no-best", "--keep-best", "--yes", code=2)
    before = aip("runs", "compare", "a", "no-best").partition("(val_accuracy)")[2]
    aip("runs", "rm", "a", "--keep-best", "--yes")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        ".lock", "best", "params.json", "run.json", "status.json", "train.log",
    ]  # fmt: skip
    for name, content in {"saved_model.pb": "", "variables/x": ""}.items():
        (tmp_path / "a/best" / name).write_text(content)
    about = json.loads((tmp_path / "a/best/aip.json").read_text())
    (tmp_path / "a/best/aip.json").write_text(json.dumps(about | {"format": 1, "signature": {}}))
    assert find_model(tmp_path / "a").path == tmp_path / "a/best"
    found = json.loads(aip("runs", "show", "a", "--json"))
    assert (found["state"], found["epochs"], found["best"]) == ("interrupted", 2, 0.5)
    assert aip("runs", "compare", "a", "no-best").partition("(val_accuracy)")[2] == before
    assert json.loads((tmp_path / "a/run.json").read_text())["result"]["epochs"] == 2


def test_many_runs_import_nothing(tmp_path: Path) -> None:
    """The table of many runs imports no TensorFlow, NumPy or Rich, and opens two records of each run."""
    for number in range(50):
        write_run(tmp_path / f"runs/digits-{number}", train__batch_size=number)
    command = [sys.executable, "-c", LISTED, "runs"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
    assert len(done.stdout.splitlines()) == 51
    assert done.stderr == "imported: opened:\n"


def test_completion_and_help(aip: Aip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--help` names the subcommands, and runs are completed as folders."""
    assert "compare" in aip("runs", "--help")
    assert "--keep-best" in aip("runs", "rm", "--help")
    from click.shell_completion import ShellComplete

    from aipcore.cli.main import app

    shell = ShellComplete(app, {}, "aip", "_AIP_COMPLETE")
    for words in (["runs", "show"], ["runs", "rm"], ["runs", "compare", "a"], ["runs", "list"]):
        assert [each.type for each in shell.get_completions(words, "")] == ["dir"]
    assert [each.value for each in shell.get_completions(["runs"], "c") if each.type == "plain"] == ["compare"]
    assert "dir" in [each.type for each in shell.get_completions(["runs"], "ru")]
