"""The parts of a sweep that need no training: scores, choices, settings, results, event files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import attrs
import optuna
import pytest
from aip_plugins.commands.sweep.hparams import write_experiment, write_session
from aip_plugins.commands.sweep.request import SweepRequest
from aip_plugins.commands.sweep.results import Row, headings, rows_of, write_results
from aip_plugins.commands.sweep.settings import Settings, read_settings, refuse_changes, write_settings
from aip_plugins.commands.sweep.space import Space, make_space
from aip_plugins.commands.sweep.study import importances, open_study, suggest
from aip_plugins.commands.sweep.trial import Score, diverged

from aipcore.cli.request import Arguments, make_request
from aipcore.errors import UsageError

SPACE = ("optimizer.epsilon=log:1e-9..1e-5", "model.graph=MLP,CNN", "model.graph.kernel_size=1..5:2")


@pytest.fixture(scope="module")
def space() -> Space:
    """Return a space of two networks, one with a further option."""
    return make_space(SPACE, make_request(Arguments(scenario="tutorial", options={}, rest=[]), "sweep"), ())


@pytest.fixture
def settings() -> Settings:
    """Return a sweep of the tutorial."""
    return Settings(
        scenario="tutorial", params=(), words=("--trainer.epochs", "2"), space=SPACE, sampler="tpe", pruner="none",
        seed=1, monitor=("max", "accuracy"), own_monitor=True, trials=20, storage=None, study="s", cwd="/",
    )  # fmt: skip


class TestScore:
    def test_best_epoch(self) -> None:
        """The best epoch counts, by the validation value if there is one."""
        score = Score("max", "accuracy", own=True)
        score.take([
            {"loss": 1.0, "accuracy": 0.9, "val_accuracy": 0.5},
            {"loss": 0.5, "accuracy": 0.95},
            {"loss": 0.6, "accuracy": 0.8, "val_accuracy": 0.75},
            {"loss": 0.4, "accuracy": 1.0, "val_accuracy": 0.75},
        ])  # fmt: skip
        assert (score.name, score.value, score.epoch) == ("val_accuracy", 0.75, 3)
        assert score.logs == {"loss": 0.6, "accuracy": 0.8, "val_accuracy": 0.75}

    def test_no_numbers(self) -> None:
        """Epochs with a loss or value that is not finite do not count."""
        score = Score("min", "val_loss")
        score.take([{"loss": float("nan"), "val_loss": 0.1}, {"loss": 1.0, "val_loss": float("inf")}])
        assert score.value is None
        assert diverged(3, {"loss": float("nan")}) == "the loss is nan in epoch 3"
        assert not diverged(3, {"loss": 1.0})

    def test_unknown(self) -> None:
        """An impossible value is reported at the first epoch, one that may still appear at the end."""
        loss, validation = Score("min", "lss"), Score("min", "val_lss")
        assert loss.unknown([{"loss": 1.0}], final=False) == (
            "The value lss is not logged, only loss. Choose another --monitor."
        )
        assert not validation.unknown([{"loss": 1.0}], final=False)
        assert validation.unknown([{"loss": 1.0}], final=True)
        assert validation.unknown([{"loss": 1.0, "val_loss": 1.0}], final=False)
        assert not validation.unknown([], final=True)


class TestStudy:
    @pytest.mark.slow
    def test_choices_follow_from_the_seed_and_the_number(self, space, settings, tmp_path) -> None:
        """A sweep that is interrupted after each trial makes the same, distinct choices as an uninterrupted one."""

        def chosen(name: str, *, again: bool) -> list[dict[str, str]]:
            url, found = f"sqlite:///{tmp_path / name}", []
            mine = attrs.evolve(settings, storage=url)
            study = open_study(mine, space)
            for number in range(14):
                if again:
                    study = open_study(mine, space)
                trial = study.ask()
                found.append(suggest(study, trial, settings, space))
                study.tell(trial, number % 5)
            return found

        straight, interrupted = chosen("a.db", again=False), chosen("b.db", again=True)
        assert straight == interrupted
        assert len({json.dumps(each) for each in straight}) == 14
        assert all(("model.graph.kernel_size" in each) == (each["model.graph"] == "CNN") for each in straight)

    def test_a_resumed_trial_keeps_its_parameters(self, space, settings, tmp_path) -> None:
        """A resumed trial keeps its parameters."""
        study = open_study(settings, space, tmp_path)
        trial = study.ask()
        before = suggest(study, trial, settings, space)
        other = attrs.evolve(settings, seed=2)
        assert suggest(study, optuna.Trial(study, trial._trial_id), other, space) == before

    def test_grid(self, settings, tmp_path) -> None:
        """A grid is in the study as waiting trials, once for any number of starts."""
        request = make_request(Arguments(scenario="tutorial", options={}, rest=[]), "sweep")
        texts = ("model.graph=MLP,CNN", "model.graph.kernel_size=1..3:2")
        grid = make_space(texts, request, ())
        settings = attrs.evolve(settings, sampler="grid", space=texts)
        for _ in range(2):
            study = open_study(settings, grid, tmp_path)
        assert len(study.get_trials()) == 3
        found = [suggest(study, study.ask(), settings, grid) for _ in range(3)]
        assert found == [
            {"model.graph": "MLP"},
            {"model.graph": "CNN", "model.graph.kernel_size": "1"},
            {"model.graph": "CNN", "model.graph.kernel_size": "3"},
        ]

    def test_other_study(self, space, settings, tmp_path, refused: Any) -> None:
        """A study of the same name with another search space is not changed."""
        open_study(settings, space, tmp_path)
        with refused(UsageError):
            open_study(attrs.evolve(settings, monitor=("min", "loss")), space, tmp_path)
        optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="foreign").ask()
        with refused(UsageError):
            open_study(attrs.evolve(settings, study="foreign"), space, tmp_path)

    @pytest.mark.parametrize("url", ["nonsense", "nosuch://host/db", "sqlite:////nowhere/at/all.db"])
    def test_no_database(self, space, settings, url, refused: Any) -> None:
        """An unreachable address is refused in one sentence."""
        with refused(UsageError) as raised:
            open_study(attrs.evolve(settings, storage=url), space)
        assert "\n" not in str(raised.value)

    def test_importance(self, space, settings, tmp_path) -> None:
        """The decisive parameter comes first; without trials there is no importance."""
        study = open_study(settings, space, tmp_path)
        assert importances(study) == {}
        for _ in range(30):
            trial = study.ask()
            suggest(study, trial, attrs.evolve(settings, sampler="random"), space)
            study.tell(trial, float(trial.params["model.graph"] == "CNN"))
        found = importances(study)
        assert list(found) == ["model.graph", "optimizer.epsilon"]
        assert sum(found.values()) == pytest.approx(1)


class TestSettings:
    def test_round_trip(self, settings, tmp_path) -> None:
        """Written settings are read back unchanged."""
        write_settings(tmp_path, settings)
        assert read_settings(tmp_path, None) == settings

    def test_resumed_by_its_folder(self, space, settings, tmp_path) -> None:
        """Settings that are read from a folder claim it, also with secret parameters."""
        words = ("--callbacks.mlflow.tracking_uri", "postgresql://me:secret@host/db")
        for folder, recorded in (("a", settings.words), ("b", (words[0], "postgresql://me:***@host/db"))):
            path = tmp_path / folder
            path.mkdir()
            write_settings(path, attrs.evolve(settings, words=words, recorded_words=recorded))
            read = read_settings(path, None)
            request = SweepRequest(settings=read, space=space, epochs=2, folder=path, name="tutorial")
            assert request.claim() == path
            assert read_settings(path, None) == read

    def test_no_password(self, settings, tmp_path, refused: Any) -> None:
        """A database's password is not written, and requested again."""
        url = "postgresql://me:secret@host/db"
        write_settings(tmp_path, attrs.evolve(settings, storage=url))
        assert "secret" not in (tmp_path / "sweep.json").read_text()
        with refused(UsageError):
            read_settings(tmp_path, None)
        assert read_settings(tmp_path, url).storage == url

    def test_another_sweep(self, settings, refused: Any) -> None:
        """The sweep of a folder is only resumed by a command with the same settings."""
        with refused(UsageError):
            refuse_changes(settings, attrs.evolve(settings, words=("--trainer.epochs", "3")))
        refuse_changes(settings, attrs.evolve(settings, seed=5, trials=3))

    def test_damaged(self, tmp_path, refused: Any) -> None:
        """A file that was edited is refused in one sentence."""
        (tmp_path / "sweep.json").write_text("[]")
        with refused(UsageError):
            read_settings(tmp_path, None)


def rows() -> list[Row]:
    """Return three trials."""
    made = []
    for number, (state, value) in enumerate([("complete", 0.5), ("pruned", 0.25), ("failed", None)]):
        made.append(
            Row(
                trial=number, state=state, value=value, epoch=None if value is None else 2, seconds=1.25,
                params={"optimizer.epsilon": 1e-7, "model.graph": "MLP"}, reason="" if value else "no memory",
                folder=f"/f/trial-{number:04d}", logs={} if value is None else {"val_accuracy": value, "loss": 3.0},
            )
        )  # fmt: skip
    return made


def test_order(space, settings, tmp_path) -> None:
    """The best come first, then the pruned, running and failed ones."""
    study = open_study(settings, space, tmp_path)
    for value in (0.5, 0.75, None, 0.25):
        trial = study.ask()
        trial.set_user_attr("value", value)
        study.tell(trial, value, state=None if value else optuna.trial.TrialState.FAIL)
    study.ask()
    assert [(row.trial, row.state) for row in rows_of(study, "max")] == [
        (1, "complete"), (0, "complete"), (3, "complete"), (4, "running"), (2, "failed"),
    ]  # fmt: skip
    assert [row.trial for row in rows_of(study, "min")][:3] == [3, 0, 1]


def test_files(tmp_path) -> None:
    """Both files have all trials, and the CSV has a column for each varied parameter."""
    write_results(tmp_path, rows(), ["optimizer.epsilon", "model.graph", "model.graph.kernel_size"])
    with (tmp_path / "trials.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["state"] for row in read] == ["complete", "pruned", "failed"]
    assert (read[0]["optimizer.epsilon"], read[0]["model.graph.kernel_size"]) == ("1e-07", "")
    assert (read[2]["value"], read[2]["reason"]) == ("", "no memory")
    assert json.loads((tmp_path / "trials.json").read_text())[1]["value"] == 0.25


def test_headings() -> None:
    """A column is named by the last part of its parameter, unless two are the same."""
    assert headings(["optimizer.epsilon", "a.units", "b.units"]) == ["epsilon", "a.units", "b.units"]


def test_event_files(space, tmp_path: Path) -> None:
    """TensorBoard's own reader finds the experiment, and each trial's parameters, values and end."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    write_experiment(tmp_path, space.dimensions, "max", "val_accuracy")
    experiment = EventAccumulator(str(tmp_path)).Reload().summary_metadata["_hparams_/experiment"]
    found = metadata.parse_experiment_plugin_data(experiment.plugin_data.content)
    assert {info.name for info in found.hparam_infos} == {each.name for each in space.dimensions}
    for row in rows():
        folder = tmp_path / f"trial-{row.trial:04d}"
        folder.mkdir()
        # A resumed trial is written again.
        for _ in range(2):
            write_session(folder, row, space.dimensions, "val_accuracy")
        events = EventAccumulator(str(folder)).Reload()
        start = metadata.parse_session_start_info_plugin_data(
            events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        )
        assert start.hparams["optimizer.epsilon"].number_value == 1e-7
        assert start.hparams["model.graph"].string_value == "MLP"
        end = metadata.parse_session_end_info_plugin_data(
            events.summary_metadata["_hparams_/session_end_info"].plugin_data.content
        )
        assert end.status == (2 if row.state == "failed" else 1)
        tags = set(events.Tags()["tensors"])
        assert ("best/val_accuracy" in tags) == (row.value is not None)


def test_settings_of_earlier_versions(settings, tmp_path: Path) -> None:
    """A `sweep.json` with one parameter file or none, and without plugin files, is read."""
    for before, now in ((None, ()), ("a.yaml", ("a.yaml",))):
        write_settings(tmp_path, settings)
        plain = json.loads((tmp_path / "sweep.json").read_text())
        del plain["plugins"]
        (tmp_path / "sweep.json").write_text(json.dumps({**plain, "params": before}))
        assert read_settings(tmp_path, None).params == now
