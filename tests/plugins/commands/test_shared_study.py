"""Sweeps that share a study, with trials that take no time: claims, the last trial and the tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from aip_plugins.commands.sweep.request import SweepRequest
from aip_plugins.commands.sweep.runner import Sweep
from aip_plugins.commands.sweep.settings import Settings, write_settings
from aip_plugins.commands.sweep.space import Space, make_space
from aip_plugins.commands.sweep.study import open_study
from aip_plugins.commands.sweep.trial import Outcome
from rich.console import Console

from aipcore.cli.request import Arguments, make_request

SCRIPT = '''
import sys
from pathlib import Path

import attrs
from aip_plugins.commands.sweep.request import SweepRequest
from aip_plugins.commands.sweep.runner import Sweep
from aip_plugins.commands.sweep.settings import Settings
from aip_plugins.commands.sweep.space import make_space
from aip_plugins.commands.sweep.study import open_study
from aip_plugins.commands.sweep.trial import Outcome
from rich.console import Console

from aipcore.cli.request import Arguments, make_request


class Quick(Sweep):
    """Trials that end when they begin."""

    def _run_trial(self, trial):
        trial.set_user_attr("by", self.settings.home)
        self.study.tell(trial, float(trial.number))
        return Outcome(state="complete")


class Stop:
    received = None


request = make_request(Arguments(scenario="tutorial", options={}, rest=[]), "sweep")
space = make_space(["trainer.epochs=1..9"], request, ())
grid = Settings(
    scenario="tutorial", params=(), words=(), space=("trainer.epochs=1..9",), sampler="grid", pruner="none",
    seed=1, monitor=("min", "loss"), own_monitor=True, trials=None, storage=sys.argv[1], study="grid",
    cwd=str(Path.cwd()),
)
print("ready", flush=True)
sys.stdin.readline()
for settings in (grid, attrs.evolve(grid, sampler="random", trials=7, study="random")):
    begun = SweepRequest(settings=settings, space=space, epochs=1, folder=None, name=settings.study)
    study = open_study(settings, space)
    folder = begun.claim().resolve()
    sweep = Quick(
        settings=begun.settings, space=space, study=study, folder=folder, console=Console(quiet=True), quiet=True,
        stop=Stop(),
    )
    sweep.run(None)
    sweep.write_tables()
'''


def table(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder's `trials.json`."""
    rows: list[dict[str, Any]] = json.loads((folder / "trials.json").read_text())
    return rows


@pytest.mark.slow
def test_begin_together(tmp_path: Path) -> None:
    """Three processes that start together make one study, one folder each, each trial once, and complete tables."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, url],
            cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    for name, count in (("grid", 9), ("random", 7)):
        folders = sorted((tmp_path / "runs").glob(f"{name}-sweep-*"))
        assert [folder.name for folder in folders] == [f"{name}-sweep-{number}" for number in (1, 2, 3)]
        tables = [table(folder) for folder in folders]
        assert tables[0] == tables[1] == tables[2]
        assert [row["trial"] for row in tables[0]] == list(range(count))
        assert {row["state"] for row in tables[0]} == {"complete"}
        assert len({row["folder"] for row in tables[0]}) == count


@attrs.define(kw_only=True)
class Quick(Sweep):
    """A runner whose trials end immediately, after a call of `during`."""

    during: Any = None

    def _run_trial(self, trial: Any) -> Outcome:
        if self.during is not None:
            self.during()
        self.study.tell(trial, 1.0)
        return Outcome(state="complete")


@pytest.fixture
def shared(tmp_path: Path) -> Any:
    """Return a function that creates a sweep of two trials in a separate folder, on one database."""
    texts = ("trainer.epochs=1..9",)
    space: Space = make_space(texts, make_request(Arguments(scenario="tutorial", options={}, rest=[]), "sweep"), ())

    def make(name: str, **changes: Any) -> Quick:
        settings = Settings(
            scenario="tutorial", params=(), words=(), space=texts, sampler="random", pruner="none", seed=1,
            monitor=("min", "loss"), own_monitor=True, trials=2, storage=f"sqlite:///{tmp_path / 'shared.db'}",
            study="s", cwd=str(tmp_path),
        )  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        write_settings(folder, settings)
        return Quick(
            settings=settings, space=space, study=open_study(settings, space), folder=folder,
            console=Console(quiet=True), quiet=True, stop=SimpleNamespace(received=None), **changes,
        )  # fmt: skip

    return make


def test_tables_of_the_sweep_that_ends_first(shared: Any) -> None:
    """The sweep that ends last completes the tables of the other one; a deleted folder causes no error."""
    first, gone = shared("first"), shared("gone")
    seen = []

    def first_ends() -> None:
        gone.run(0.0)
        (gone.folder / "sweep.json").unlink()
        first.run(None)
        first.write_tables()
        seen.extend(row["state"] for row in table(first.folder))

    last = shared("last", during=first_ends)
    last.run(None)
    last.write_tables()
    assert seen == ["complete", "running"]
    assert [row["state"] for row in table(first.folder)] == ["complete", "complete"]
    assert table(first.folder) == table(last.folder)
    assert (first.folder / "trials.csv").read_text() == (last.folder / "trials.csv").read_text()
    assert not (gone.folder / "trials.csv").exists()


def test_trial_of_a_process_that_was_killed_while_it_asked(shared: Any) -> None:
    """A trial that no folder has claimed yet is taken over."""
    sweep = shared("a")
    sweep.study.ask()
    sweep.run(None)
    rows = sweep.write_tables()
    assert [(row.trial, row.state) for row in rows] == [(0, "complete"), (1, "complete")]
    assert {Path(row.folder).parent for row in rows} == {sweep.folder}


def test_folder_of_another_sweep_that_is_faster(shared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep without --sweep_dir takes the next number if another one creates its folder first."""
    monkeypatch.chdir(tmp_path)
    sweep = shared("a")
    begun = SweepRequest(settings=sweep.settings, space=sweep.space, epochs=1, folder=None, name="n")
    make = Path.mkdir

    def slower(self: Path, *words: Any, **arguments: Any) -> None:
        if self.name == "n-sweep-1" and not self.exists():
            make(self, parents=True)
        make(self, *words, **arguments)

    monkeypatch.setattr(Path, "mkdir", slower)
    assert begun.claim().name == "n-sweep-2"
