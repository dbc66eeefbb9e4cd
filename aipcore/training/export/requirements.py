"""Packages that exporters need beside aip's own: looked for before anything is computed, and not imported for it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from aipcore.errors import UsageError
from aipcore.hooks.manager import PluginManager
from aipcore.hooks.records import ExporterParams
from aipcore.params import Choice


def require_packages(formats: Iterable[Choice[ExporterParams]], plugins: PluginManager, option: str) -> None:
    """Makes sure that what the chosen exporters need is installed.

    Args:
        formats: the chosen exporters.
        plugins: the installed plugins.
        option: by which the user chose them, such as `--export.formats`.

    Raises:
        UsageError: a package is missing; says how to install it.
    """
    for each in formats:
        record = plugins.get("exporter", each.name)
        if lacking := lacking_packages(record):
            raise UsageError(f"{option} {record.name} {lacking}.")


def lacking_packages(record: Any) -> str:
    """What an `ExporterRecord` needs and what of it is missing, as the end of a sentence; empty if nothing is."""
    missing = [name for name in record.packages if find_spec(name) is None]
    if not missing:
        return ""
    return (
        f"needs the {_listed(record.packages)}, of which {' and '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} missing: pip install {_quoted(record.install or ' '.join(missing))}"
    )


def _listed(names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return f"package {names[0]}"
    return f"packages {', '.join(names[:-1])} and {names[-1]}"


def _quoted(requirement: str) -> str:
    # Brackets mean something to shells.
    return f"'{requirement}'" if "[" in requirement else requirement
