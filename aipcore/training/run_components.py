"""The plugins that a run is made of, beside those that are installed now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipcore.errors import PluginError, UsageError
from aipcore.hooks.manager import PluginManager
from aipcore.params.names import normalize

KINDS = ("scenario", "optimizer", "schedule", "callback", "exporter")
"""The kinds of plugins that a run is made of."""

UNKNOWN = "The folder's run.json does not say which plugins the run is made of: restore it."


def compare_plugins(about: Mapping[str, Any], plugins: PluginManager) -> tuple[list[str], list[tuple[str, str]]]:
    """Warnings of other versions, and the components (kind, name) that are missing.

    Args:
        about: what the run recorded.
        plugins: the installed plugins.

    Raises:
        PluginError: the scenario or the optimizer is missing, which nothing can replace.
    """
    warnings: list[str] = []
    missing: list[tuple[str, str]] = []
    for each in _components(about):
        kind, name, package, version = each
        if plugins.has(kind, name):
            here = plugins.entry(kind, name).plugin
            if (normalize(here.distribution), here.version) != (normalize(package), version):
                warnings.append(
                    f"The {kind} {name} was that of {package} {version} so far and is that of {here.source} now: "
                    "the run may not go on as it would have."
                )
        elif kind in ("scenario", "optimizer"):
            raise PluginError(_missing(each, plugins))
        else:
            missing.append((kind, name))
    return warnings, missing


def missing_component(about: Mapping[str, Any], kind: str, name: str, plugins: PluginManager) -> str:
    """A sentence on a component that is missing: where it came from, and what to do."""
    return _missing(next(each for each in _components(about) if each[:2] == (kind, name)), plugins)


def _components(about: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    try:
        found = [
            tuple(str(each[key]) for key in ("kind", "name", "package", "version")) for each in about["components"]
        ]
    except (KeyError, TypeError, IndexError) as error:
        raise UsageError(UNKNOWN) from error
    if any(kind not in KINDS for kind, *_ in found):
        raise UsageError(UNKNOWN)
    return found  # type: ignore[return-value]


def _missing(component: tuple[str, str, str, str], plugins: PluginManager) -> str:
    kind, name, package, version = component
    message = f"The {kind} {name} of this run came from {package} {version}, which "
    for plugin in plugins.plugins:
        if normalize(plugin.distribution) == normalize(package):
            return f"{message}is here as {plugin.source}, but {plugin.reason or 'does not have it'}: mend that first."
    return f"{message}is not installed: install it (pip install {package}=={version})."
