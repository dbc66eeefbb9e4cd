"""Packages required by exporters in addition to aip's own, checked before training without importing them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from aipcore.errors import UsageError
from aipcore.hooks.manager import PluginManager
from aipcore.hooks.records import ExporterParams
from aipcore.params import Choice


def require_packages(formats: Iterable[Choice[ExporterParams]], plugins: PluginManager, option: str) -> None:
    """Check that the packages required by the selected exporters are installed.

    Args:
        formats: the selected exporters.
        plugins: the installed plugins.
        option: the option that selected them, such as `--export.formats`.

    Raises:
        UsageError: a package is missing; the message has the command that installs it.
    """
    for each in formats:
        record = plugins.get("exporter", each.name)
        if lacking := lacking_packages(record):
            raise UsageError(f"{option} {record.name} {lacking}.")


def lacking_packages(record: Any) -> str:
    """Return the required and the missing packages of an exporter or writer as the end of a sentence, or ""."""
    missing = [name for name in record.packages if find_spec(name) is None]
    if not missing:
        return ""
    return (
        f"needs the {_listed(record.packages)}, but {' and '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} not installed. "
        f"Run pip install {_quoted(record.install or ' '.join(missing))}"
    )


def _listed(names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return f"package {names[0]}"
    return f"packages {', '.join(names[:-1])} and {names[-1]}"


def _quoted(requirement: str) -> str:
    # Brackets are special characters in shells.
    return f"'{requirement}'" if "[" in requirement else requirement
