"""Secrets in parameters are neither recorded nor shown, and requested when a record is read."""

from __future__ import annotations

import json
import logging
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aipcore.cli.help import show_details
from aipcore.cli.main import main
from aipcore.cli.style import report
from aipcore.console import Console
from aipcore.errors import ParamsError, UsageError
from aipcore.logs import logging_to
from aipcore.params import (
    Layer,
    at_least,
    field,
    fill,
    from_dict,
    group,
    params,
    resolve,
    sections,
    to_dict,
    to_yaml,
)
from aipcore.params.checks import Check
from aipcore.params.secret import host_alone, redacted
from aipcore.params.tree import leaves

PASSWORD = "s3cr3t-Word"


@params
class Account:
    """An account."""

    token: str | None = field(None, help="A token.", secret=True, check=Check("long", lambda text: len(text) > 3))
    place: str = field("", help="An address.", contacts=True)
    port: int = field(1, help="A port.", check=at_least(1))


@params
class Root:
    """Parameters."""

    account: Account = group(Account, help="An account.")


def given(*words: str) -> Any:
    """Resolve words of a command line."""
    return resolve(Root, [Layer.from_arguments(words)])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:PW@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:P@W/x@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://h/db?user=me&password=PW", "postgresql://h/db?user=me&password=***"),
        ("postgresql://h/db?user=me&p%61ssword=PW", "postgresql://h/db?user=me&p%61ssword=***"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3DPW", "mssql+pyodbc:///?odbc_connect=***"),
        ("https://me:PW@host:8080/x?a=b@c", "https://me:***@host:8080/x?a=b@c"),
        ("https://TOKEN@host/x", "https://***@host/x"),
        ("https://host:8080/x?a=b@c&api_key=PW#top", "https://host:8080/x?a=b@c&api_key=***#top"),
        ("https://host/x?sig=PW&monkey=7", "https://host/x?sig=***&monkey=7"),
        ("sqlite:////home/me/a@b/x.db", "sqlite:////home/me/a@b/x.db"),
        ("mysql://me@host/db", "mysql://me@host/db"),
        ("cannot open redis://:PW@host: refused", "cannot open redis://:***@host: refused"),
        ("http://localhost:5000", "http://localhost:5000"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    """Passwords and tokens are removed from any part of an address, and nothing else."""
    assert redacted(url) == shown
    assert redacted(shown) == shown


def test_recorded_and_shown(refused: Any) -> None:
    """Mappings, files, help and messages contain no secret, and addresses without their password."""
    words = ("--account.token", PASSWORD, "--account.place", f"http://me:{PASSWORD}@host/x")
    resolved = given(*words)
    assert resolved.value.account.token == PASSWORD
    plain = to_dict(resolved.value)
    assert plain == {"account": {"token": "***", "place": "http://me:***@host/x", "port": 1}}
    assert from_dict(Root, to_dict(resolved.value, reveal=True)) == resolved.value
    output = StringIO()
    show_details(Console(file=output, width=200), sections(fill(Root, [Layer.from_arguments(words)])))
    text = output.getvalue() + to_yaml(resolved.tree, origins=True)
    assert PASSWORD not in text
    assert text.count("***") == 4
    with refused(ParamsError) as raised:
        given("--account.token", "abc")
    assert "abc" not in str(raised.value)
    with pytest.raises(ParamsError) as raised:
        Account(token="abc")
    assert "abc" not in str(raised.value)


def test_asked_for(monkeypatch: Any, refused: Any) -> None:
    """Withheld values come from an option or the environment, or are requested in one sentence."""
    plain = {"account": {"token": "***", "place": "http://me:***@host/x"}}
    record = Layer.from_mapping("the run", plain)
    with pytest.raises(ParamsError) as raised:
        resolve(Root, [record])
    assert str(raised.value) == (
        "--account.token (***) and --account.place (http://me:***@host/x) contain secrets, which are not "
        "recorded. Pass the option, or set AIP_SECRET_ACCOUNT_TOKEN, AIP_SECRET_ACCOUNT_PLACE."
    )
    assert {leaf.withheld for leaf in leaves(fill(Root, [record]))} == {True, False}
    options = Layer.from_arguments(["--account.token", PASSWORD, "--account.place", "http://other"])
    assert resolve(Root, [record, options]).value.account == Account(token=PASSWORD, place="http://other")
    monkeypatch.setenv("AIP_SECRET_ACCOUNT_TOKEN", PASSWORD)
    monkeypatch.setenv("AIP_SECRET_ACCOUNT_PLACE", "http://me:x@host/x")
    monkeypatch.setenv("AIP_SECRET_ACCOUNT_PORT", "7")
    assert resolve(Root, [record]).value.account == Account(token=PASSWORD, place="http://me:x@host/x")
    # For values that no layer sets, only secrets are read from the environment.
    assert given().value.account == Account(token=PASSWORD)
    assert given("--account.token", "other").value.account.token == "other"
    monkeypatch.setenv("AIP_SECRET_ACCOUNT_TOKEN", "abc")
    with refused(ParamsError) as raised:
        resolve(Root, [record])
    assert "abc" not in str(raised.value)


def test_only_text_is_a_secret(refused: Any) -> None:
    """A secret is recorded as text and must be declared as text."""

    @params
    class Wrong:
        """Parameters."""

        pin: int = field(1, help="A pin.", secret=True)

    with refused(ParamsError):
        fill(Wrong, [])


def everything(folder: Path) -> str:
    """Return all content of a folder."""
    return "\n".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


ENDED = SimpleNamespace(signal=None)
URI = f"postgresql://me:{PASSWORD}@host/db"


@pytest.fixture
def mlflow(monkeypatch: Any) -> None:
    """Make the callback MLflow available without its package or its database driver."""
    monkeypatch.setattr("aip_plugins.callbacks.remote_params.require", lambda *_: None)
    monkeypatch.setattr("aip_plugins.callbacks.remote_params._check_driver", lambda _: None)


@pytest.mark.usefixtures("mlflow")
def test_a_run(make_run: Any, monkeypatch: Any, capsys: Any) -> None:
    """The record of a run has no password of a tracking server, and resume asks for it."""
    run = make_run("--callbacks", "MLflow", "--callbacks.mlflow.tracking_uri", URI)
    assert PASSWORD not in everything(run)
    assert "postgresql://me:***@host/db" in (run / "params.json").read_text()
    assert main(["resume", str(run), "--trust"]) == 2
    error = capsys.readouterr().err
    assert "--callbacks.MLflow.tracking_uri (postgresql://me:***@host/db) contains a secret" in error
    assert "set AIP_SECRET_CALLBACKS_MLFLOW_TRACKING_URI." in error
    reached: list[Any] = []
    monkeypatch.setattr("aipcore.training.resume._resume", lambda each, *_, **__: reached.append(each) or ENDED)
    assert main(["resume", str(run), "--callbacks.mlflow.tracking_uri", URI]) == 0
    monkeypatch.setenv("AIP_SECRET_CALLBACKS_MLFLOW_TRACKING_URI", URI)
    assert main(["resume", str(run)]) == 0
    for each in reached:
        assert each.resolved.value.trainer.callbacks[0].params.tracking_uri == URI
        assert not each.found
    assert main(["params", "tutorial", "--callbacks", "MLflow", "--callbacks.mlflow.tracking_uri", URI]) == 0
    assert main(["resume", str(run), "--help"]) == 0
    assert PASSWORD not in "".join(capsys.readouterr())


def test_a_sweep(tmp_path: Path, monkeypatch: Any, refused: Any) -> None:
    """The file of a sweep has neither the password of its storage nor those of its trials."""
    from aip_plugins.commands.sweep.runner import withheld_words
    from aip_plugins.commands.sweep.settings import Settings, read_settings, write_settings
    from aip_plugins.commands.sweep.space import make_space

    from aipcore.cli.request import Arguments, make_request

    words = ("--callbacks", "MLflow", "--callbacks.mlflow.tracking_uri", URI, "--trainer.epochs=3")
    request = make_request(Arguments(scenario="tutorial", options={}, rest=list(words)), "sweep")
    storage = f"postgresql://h/db?user=me&password={PASSWORD}"
    settings = Settings(
        scenario="tutorial", params=(), words=words, space=(), sampler="tpe", pruner="none", seed=1,
        monitor=("min", "val_loss"), own_monitor=True, trials=1, storage=storage, study="s", cwd="/",
        recorded_words=make_space((), request, words).recorded_words(),
    )  # fmt: skip
    write_settings(tmp_path, settings)
    text = (tmp_path / "sweep.json").read_text()
    assert PASSWORD not in text
    assert json.loads(text)["storage"] == "postgresql://h/db?user=me&password=***"
    assert PASSWORD not in str(settings.train_words(recorded=True))
    assert withheld_words(settings) == ["--callbacks.mlflow.tracking_uri", URI]
    with refused(UsageError):
        read_settings(tmp_path, None)
    assert read_settings(tmp_path, storage).storage == storage
    monkeypatch.setenv("AIP_SECRET_STORAGE", storage)
    read = read_settings(tmp_path, None)
    assert read.storage == storage
    assert read.words == ("--callbacks", "MLflow", "--callbacks.mlflow.tracking_uri",
                          "postgresql://me:***@host/db", "--trainer.epochs=3")  # fmt: skip
    assert withheld_words(read) == []


def test_messages(tmp_path: Path, capsys: Any) -> None:
    """Errors of libraries for unreachable addresses are redacted in train.log, on the terminal and as errors."""
    from aipcore.training.console_reporter import ConsoleHandler

    output = StringIO()
    with logging_to(ConsoleHandler(Console(file=output), quiet=False), file_follows=True) as log:
        log.write_to(tmp_path / "train.log")
        logging.getLogger("aipcore.test").warning("cannot reach %s: refused", URI)
    report("error", f"cannot reach {URI}")
    for text in ((tmp_path / "train.log").read_text(), output.getvalue(), capsys.readouterr().err):
        assert "cannot reach postgresql://me:***@host/db" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/services/T000/SECRET", "https://hooks.example/***"),
        ("HTTPS://me:PW@hooks.example:8443/x", "HTTPS://hooks.example:8443/***"),
        ("http://hooks.example?token=SECRET", "http://hooks.example/***"),
        ("https://hooks.example/", "https://hooks.example/"),
        ("env:MY_HOOK", "env:MY_HOOK"),
    ],
)
def test_host_alone(url: str, shown: str) -> None:
    """Only the host of an address is kept."""
    assert host_alone(url) == shown
    assert host_alone(shown) == shown


def test_webhook_is_recorded_without_its_path(make_run: Any, monkeypatch: Any, capsys: Any) -> None:
    """The whole path is secret: no file of the run has it, and resuming needs it again."""
    url = "https://hooks.example/services/T000/SECRET"
    run = make_run("--callbacks", "Webhook", "--callbacks.webhook.url", url)
    for path in (each for each in run.rglob("*") if each.is_file()):
        assert b"T000" not in path.read_bytes(), path
    assert "https://hooks.example/***" in (run / "params.json").read_text()
    monkeypatch.setattr("aipcore.training.resume._resume", lambda *_, **__: ENDED)
    assert main(["resume", str(run)]) == 2
    assert capsys.readouterr().err == (
        "error: --callbacks.Webhook.url (https://hooks.example/***) contains a secret, which is not recorded. Pass the "
        "option, or set AIP_SECRET_CALLBACKS_WEBHOOK_URL.\n"
    )
    assert main(["resume", str(run), "--callbacks.webhook.url", url]) == 0
    monkeypatch.setenv("AIP_SECRET_CALLBACKS_WEBHOOK_URL", url)
    assert main(["resume", str(run)]) == 0


EVIL = "https://evil.example/x"


@pytest.mark.usefixtures("mlflow")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("Webhook", "--callbacks.webhook.url", EVIL), "https://evil.example/*** (--callbacks.Webhook.url)"),
        (("MLflow", "--callbacks.mlflow.tracking_uri", EVIL), f"{EVIL} (--callbacks.MLflow.tracking_uri)"),
        (("MLflow", "--callbacks.mlflow.tracking_uri", "sqlite:////tmp/x.db"), "sqlite:////tmp/x.db"),
        (("WandB",), "Weights & Biases (--callbacks.WandB.mode)"),
    ],
)
def test_addresses_of_a_folder(make_run: Any, words: Any, named: str, monkeypatch: Any, capsys: Any) -> None:
    """An address in a folder is shown but not contacted, unless --trust or the user gives it."""
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = make_run("--callbacks", *words)
    if "***" in named:
        # Simulates a stranger who wants the run to connect.
        for name in ("params.json", "run.json"):
            (run / name).write_text((run / name).read_text().replace("***", "abc"))
    reached: list[Any] = []
    monkeypatch.setattr("aipcore.training.resume._resume", lambda each, *_, **__: reached.append(each) or ENDED)
    monkeypatch.setattr("aip_plugins.callbacks.remote_params.WandBParams.check", lambda _: None)
    assert main(["resume", str(run)]) == 2
    error = capsys.readouterr().err
    assert "names an address that would be contacted: " in error
    assert named in error
    assert error.count("\n") == 1
    assert not reached
    assert main(["resume", str(run), "--trust"]) == 0
    assert any(named.partition(" ")[0] in warning for warning in reached[0].warnings)
    if words[1:]:
        assert main(["resume", str(run), *words[1:]]) == 0
    assert main(["resume", str(run), "--callbacks", "CSVLog"]) == 0


def test_addresses_in_a_sweep(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """The storage and the parameters of a sweep's folder are also addresses of a folder."""
    plain = {
        "scenario": "tutorial", "params": None, "words": ["--callbacks", "Webhook", "--callbacks.webhook.url", EVIL],
        "space": ["trainer.random_seed=1..9"], "sampler": "random", "pruner": "none", "seed": 1,
        "monitor": ["min", "val_loss"], "own_monitor": True, "trials": 1, "storage": f"postgresql://me@{EVIL[8:]}",
        "study": "s", "cwd": str(tmp_path), "home": "h",
    }  # fmt: skip
    for storage, named in (
        (plain["storage"], "postgresql://me@evil.example/x (--storage)"),
        (None, EVIL.rpartition("/")[0]),
    ):
        (tmp_path / "sweep.json").write_text(json.dumps({**plain, "storage": storage}))
        monkeypatch.chdir(tmp_path)
        assert main(["sweep", "--resume", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "names an address that would be contacted: " in error
        assert named in error


def test_a_model(make_run: Any, tmp_path: Path, monkeypatch: Any, refused: Any) -> None:
    """A model whose scenario reads its data from an address does so only if it is trusted."""
    from aipcore.hooks.manager import get_plugin_manager
    from aipcore.prediction.locate import ModelDir, resolved_params
    from aipcore.scenario import DataParams, Scenario, ScenarioParams
    from aipcore.scenario.loader import LoadedScenario

    @params
    class Data(DataParams):
        """Data."""

        server: str = field("", help="A server.", contacts=True)
        token: str = field("", help="A token.", secret=True)

    @params
    class Params(ScenarioParams):
        """Parameters."""

        data: Data = group(Data, help="Data.")

    class Remote(Scenario):
        """A scenario."""

        params_class = Params

    scenario, plugins = LoadedScenario("remote", Remote, "remote"), get_plugin_manager()
    about = {"scenario": {}, "params": {"data": {"server": EVIL, "token": "***"}}, "working_dir": str(tmp_path)}
    model = ModelDir(path=tmp_path, kind="model", about=about, home=tmp_path)
    with refused(ParamsError):
        resolved_params(model, scenario, plugins, trust=True)
    token = Layer.from_arguments(["--data.token", PASSWORD])
    with refused(UsageError):
        resolved_params(model, scenario, plugins, token)
    value: Any = resolved_params(model, scenario, plugins, token, trust=True).value
    assert (value.data.server, value.data.token) == (EVIL, PASSWORD)
    own = Layer.from_arguments(["--data.token", PASSWORD, "--data.server", EVIL])
    assert resolved_params(model, scenario, plugins, own).value.data.server == EVIL  # type: ignore[attr-defined]
