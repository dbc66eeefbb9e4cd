"""Parameters of the callbacks that contact other programs, and checks of their requirements without importing them."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from aipcore.errors import UsageError
from aipcore.files import expanded, read_text
from aipcore.hooks.records import CallbackParams
from aipcore.params import Check, above, at_least, field, params
from aipcore.params.names import one_of
from aipcore.params.secret import host_alone

DATABASES = ("sqlite", "mysql", "postgresql", "mssql")
"""The databases supported by MLflow, each with an optional driver: `mysql+pymysql`."""

STORES = ("http", "https", "databricks", "databricks-uc", "uc")
"""Other URI schemes of MLflow. MLflow plugins add more."""

FROM_ENVIRONMENT = "env:"
"""Prefix of the name of an environment variable with a secret."""


def require(callback: str, module: str, extra: str) -> None:
    """Check that a package of an extra is installed, without importing it.

    Raises:
        UsageError: it is not.
    """
    if find_spec(module) is None:
        raise UsageError(
            f"The callback {callback} needs the package {module}, which is not installed. Run pip install "
            f"'aipcore[{extra}]', or leave {callback} out of --callbacks."
        )


@params
class WebhookParams(CallbackParams):
    """POSTs JSON with a field `text`, as shown by Slack, and the same data in separate fields.

    Only the scheme and the host of a URL given here are recorded, since the rest may be secret.
    """

    url: str = field(
        "env:AIP_WEBHOOK_URL",
        help="URL that receives the messages. env:NAME reads it from the environment variable NAME, which no file "
        "records.",
        check=Check(
            "env:NAME, or a URL with http or https", lambda url: url.startswith(("http://", "https://", "env:"))
        ),
        secret=host_alone,
        contacts=lambda url: "" if url.startswith(FROM_ENVIRONMENT) else host_alone(url),
    )
    every_n_epochs: int = field(0, help="Epochs between two progress messages. 0 sends none.", check=at_least(0))
    new_best: bool = field(False, help="Send a message for each epoch with a new best value.")
    timeout: float = field(
        5.0,
        help="Seconds to wait for an answer. Also the limit for all pending messages at the end of the run.",
        check=above(0),
    )

    def check(self) -> None:
        """Check that the URL is set."""
        self.resolved_url()

    def resolved_url(self) -> str:
        """Return the URL, from the environment if given there.

        Raises:
            UsageError: the variable is not set or is not a URL. The error does not show its value.
        """
        if not self.url.startswith(FROM_ENVIRONMENT):
            return self.url
        name = self.url.removeprefix(FROM_ENVIRONMENT)
        url = os.environ.get(name, "")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"The callback Webhook takes its URL from the environment variable {name}, which "
                f"{'is not an http or https URL' if url else 'is not set'}. Set it, or pass --callbacks.webhook.url."
            )
        return url


@params
class TrackerParams(CallbackParams):
    """Parameters of all trackers."""

    run_name: str | None = field(None, help="Name of the run. none uses the name of the output folder.")
    log_model: bool = field(
        False, help="Copy params.json and the exported model to the tracker. Done at the end of the run."
    )
    timeout: float = field(60.0, help="Seconds to wait for unsent data at the end of the run.", check=above(0))


@params
class MLflowParams(TrackerParams):
    """Logs parameters, the values of each epoch and the outcome to one run of MLflow, also after resuming."""

    tracking_uri: str | None = field(
        None,
        help="Location of MLflow's runs. It is http(s)://HOST, sqlite:///FILE, or another address of MLflow. none uses "
        "MLFLOW_TRACKING_URI, or else the file mlflow.db in the output folder.",
        check=Check(
            "without a user name or password: MLflow takes these from MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD",
            lambda uri: not uri.startswith("http") or "@" not in uri,
        ),
        contacts=True,
    )
    experiment: str | None = field(None, help="Name of the experiment. none uses the scenario's name.")
    tags: dict[str, str] = field({}, help="Tags of the run.")
    system_metrics: bool = field(False, help="Also log the use of CPU, memory and GPUs in each epoch.")

    def check(self) -> None:
        """Check that the package is installed and the target is usable.

        Raises:
            UsageError: one of them is not.
        """
        require("MLflow", "mlflow", "mlflow")
        if self.system_metrics:
            require("MLflow", "psutil", "system")
        uri = self.given_uri()
        if uri is None:
            require("MLflow", "sqlalchemy", "mlflow")
            if self.log_model:
                raise UsageError(
                    "--callbacks.mlflow.log_model copies the model to --callbacks.mlflow.tracking_uri, which is not "
                    "set. Set it, or leave out log_model."
                )
        elif uri.partition(":")[0].partition("+")[0] in DATABASES:
            require("MLflow", "sqlalchemy", "mlflow")
            _check_driver(uri)
            if uri.startswith("sqlite:"):
                _check_writable(uri)
        elif uri.startswith("file:") or (":" not in uri and uri not in STORES):
            raise UsageError(
                f"MLflow no longer keeps runs in a folder such as {uri}. Use --callbacks.mlflow.tracking_uri "
                f"sqlite:///{uri.removeprefix('file://')}/mlflow.db, or the address of a server."
            )
        elif uri.partition(":")[0] not in {*STORES, *entry_points(group="mlflow.tracking_store").names}:
            raise UsageError(
                f"MLflow does not support addresses that begin with {uri.partition(':')[0]}:. Use "
                f"--callbacks.mlflow.tracking_uri {one_of(f'{name}://...' for name in (*STORES[:2], *DATABASES))}."
            )

    def given_uri(self) -> str | None:
        """Return the tracking URI of the parameters, or else of the environment, or None."""
        return self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None


def _check_driver(uri: str) -> None:
    """Check for SQLAlchemy's driver package of a database. Errors do not show the address, which is a secret.

    Raises:
        UsageError: it is missing, or SQLAlchemy does not know the database or the driver.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    given = f"The database {uri.partition(':')[0]} of --callbacks.mlflow.tracking_uri"
    try:
        make_url(uri).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{given} needs the package {error.name}, which is not installed. Install it, or use another address."
        ) from error
    except (SQLAlchemyError, ValueError) as error:
        raise UsageError(f"{given} is unknown to SQLAlchemy. Use DATABASE+DRIVER://... or sqlite.") from error


def sqlite_file(uri: str) -> Path:
    """Return the file of an address such as sqlite:///FILE, relative to the working folder, or sqlite:////FILE."""
    return Path(uri.removeprefix("sqlite:").removeprefix("///"))


def _check_writable(uri: str) -> None:
    file = sqlite_file(uri)
    folder = file.parent
    if not folder.is_dir() or not os.access(folder if not file.exists() else file, os.W_OK):
        raise UsageError(
            f"--callbacks.mlflow.tracking_uri {uri} cannot be written. Create the folder {folder}, or fix "
            "its permissions."
        )


@params
class WandBParams(TrackerParams):
    """Logs parameters, the values of each epoch and the outcome to one run of Weights & Biases.

    A resumed run continues there. Files are in the folder `wandb` of the run folder.
    """

    mode: Literal["online", "offline"] = field(
        "online",
        help="Connection to W&B. online sends data immediately. offline writes files, which wandb sync sends later.",
        contacts=lambda mode: "Weights & Biases" if mode == "online" else "",
    )
    project: str | None = field(None, help="Name of the project. none uses WANDB_PROJECT, or else the scenario's name.")
    entity: str | None = field(
        None, help="User or team of the project. none uses WANDB_ENTITY, or else the logged-in user."
    )
    group: str | None = field(None, help="Name of a group of runs.")
    tags: tuple[str, ...] = field((), help="Tags of the run.")

    def check(self) -> None:
        """Check that the package is installed and, in online mode, an API key exists.

        Raises:
            UsageError: one of them is missing.
        """
        require("WandB", "wandb", "wandb")
        if self.mode == "online" and not _has_key():
            raise UsageError(
                "The callback WandB has no API key. Run wandb login, set WANDB_API_KEY, or use --callbacks.wandb.mode "
                "offline, which sends nothing."
            )


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    for name in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        file = expanded(name) if name else None
        try:
            if file is not None and host is not None and host in read_text(file).split():
                return True
        except (OSError, UnicodeDecodeError):
            continue
    return False
