"""Discovery of plugins: the installed entry points, plugin files, and the switches that disable them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

import attrs

from aipcore.errors import PluginError
from aipcore.files import shown_path
from aipcore.hooks.records import PROJECT, RECORD_TYPES, PluginRecord
from aipcore.params.names import nearest, normalize, one_of

OWN_DISTRIBUTION = "aipcore"

Status = Literal["ok", "disabled", "broken"]

Given = Literal["installed", "option", "project", "scenario", "run"]
"""The origin of a plugin: an installed package, `-p FILE`, the project's pyproject.toml, the file of the scenario, or
the record of a run."""


@attrs.frozen(kw_only=True)
class Plugin:
    """An entry point or a plugin file, and the result of loading it.

    Attributes:
        name: name of the entry point or stem of the file, as in `-p no:NAME`.
        module: target of the entry point: a module or `module:attribute`; for a file, its module.
        distribution: name of the installed package; for a file, its path.
        version: version of that package; for a file, its fingerprint.
        file: path of a plugin file; None for an entry point.
        given: origin of the plugin.
        status: load status.
        reason: reason why the plugin is disabled or broken.
        error: exception raised while loading, for a traceback.
        seconds: load time in seconds.
        records: registered records.
    """

    name: str
    module: str
    distribution: str
    version: str
    file: Path | None = None
    given: Given = "installed"
    status: Status = "ok"
    reason: str = ""
    error: BaseException | None = attrs.field(default=None, repr=False, eq=False)
    seconds: float = 0.0
    records: tuple[PluginRecord, ...] = ()

    @property
    def is_own(self) -> bool:
        """True for built-in plugins."""
        return self.file is None and normalize(self.distribution) == OWN_DISTRIBUTION

    @property
    def source(self) -> str:
        """Distribution and version, or the path of the file, for messages."""
        return f"{self.distribution} {self.version}" if self.file is None else shown_path(self.file)

    def is_from(self, package: str, version: str) -> bool:
        """Return True if the plugin has a recorded origin: a package and version, or the fingerprint of a file."""
        same = self.file is not None or normalize(self.distribution) == normalize(package)
        return same and self.version == version

    def answers_to(self, name: str) -> bool:
        """Return True if `name` is the entry point or the distribution of this plugin."""
        return normalize(name) in (normalize(self.name), normalize(self.distribution))


@attrs.frozen(kw_only=True)
class PluginFile:
    """A plugin file to load.

    Attributes:
        path: absolute path of the file.
        given: origin of the path.
        reason: reason why the file is not loaded; empty if it is.
    """

    path: Path
    given: Given = "option"
    reason: str = ""


@attrs.frozen(kw_only=True)
class Switches:
    """The switches that disable plugins, and the plugin files.

    Attributes:
        disabled: entry points or distributions from `-p no:NAME`.
        third_party: True if third-party plugins are loaded; `--no-plugins` disables them.
        only: third-party entry points or distributions to load, from `AIP_LOAD_PLUGINS`; None for all.
        strict: if True, a broken plugin is an error; from `AIP_STRICT_PLUGINS=1`.
        files: plugin files to load, from `-p FILE` and then from the project's pyproject.toml.
    """

    disabled: tuple[str, ...] = ()
    third_party: bool = True
    only: tuple[str, ...] | None = None
    strict: bool = False
    files: tuple[PluginFile, ...] = ()

    @classmethod
    def from_environment(
        cls, *, disabled: Sequence[str] = (), third_party: bool = True, files: Sequence[PluginFile] = ()
    ) -> Switches:
        """Combine the switches of the command line with those of the environment."""
        only = os.environ.get("AIP_LOAD_PLUGINS")
        return cls(
            disabled=tuple(disabled),
            third_party=third_party,
            only=None if only is None else tuple(name.strip() for name in only.split(",") if name.strip()),
            strict=os.environ.get("AIP_STRICT_PLUGINS", "") not in ("", "0"),
            files=tuple(files),
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the switches in JSON types, for another process."""
        files = [{"path": str(file.path), "given": file.given, "reason": file.reason} for file in self.files]
        return {**attrs.asdict(self), "files": files}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Switches:
        """Return switches from the output of `to_plain`."""
        only = plain["only"]
        return cls(
            disabled=tuple(plain["disabled"]),
            third_party=plain["third_party"],
            only=None if only is None else tuple(only),
            strict=plain["strict"],
            files=tuple(PluginFile(**{**file, "path": Path(file["path"])}) for file in plain["files"]),
        )

    def reason_against(self, plugin: Plugin) -> str:
        """Return the reason why a plugin is disabled; empty if it is enabled."""
        for name in self.disabled:
            if plugin.answers_to(name):
                return f"disabled by -p no:{name}"
        if plugin.reason or plugin.is_own or plugin.given in ("option", "scenario", "run"):
            return plugin.reason
        if not self.third_party:
            return "disabled by --no-plugins"
        if self.only is not None and not any(plugin.answers_to(name) for name in self.only):
            return "not named in AIP_LOAD_PLUGINS"
        return ""

    def check(self, plugins: Sequence[Plugin]) -> None:
        """Check that every name refers to an installed plugin.

        Raises:
            PluginError: a name does not match any plugin.
        """
        for switch, names in (("-p no:", self.disabled), ("AIP_LOAD_PLUGINS=", self.only or ())):
            for name in names:
                if any(plugin.answers_to(name) for plugin in plugins):
                    continue
                known = dict.fromkeys(each for plugin in plugins for each in (plugin.name, plugin.distribution))
                near = nearest(name, known)
                hint = f"did you mean {one_of(near)}?" if near else "`aip plugins list` shows all plugins."
                raise PluginError(f"{switch}{name}: no installed plugin has this name; {hint}")


def installed() -> list[tuple[EntryPoint, Plugin]]:
    """Return the entry points of the group `aip`: built-in ones first, then by distribution and name.

    If `sys.path` has two copies of a distribution, the first one counts, as for `import`.
    """
    pairs = [(point, _plugin(point)) for point in entry_points(group=PROJECT)]
    pairs.sort(key=lambda pair: (not pair[1].is_own, normalize(pair[1].distribution), pair[1].name))
    return pairs


def _plugin(point: EntryPoint) -> Plugin:
    name, version = _identity(point.dist) if point.dist is not None else ("unknown", "unknown")
    return Plugin(name=point.name, module=point.value, distribution=name, version=version)


def _identity(distribution: Distribution) -> tuple[str, str]:
    # Distribution.name and .version parse the whole metadata, README included, as an e-mail. With hundreds of plugins
    # this is slower than importing them.
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    found = {"name": "unknown", "version": "unknown"}
    for line in text.splitlines():
        if not line:
            break
        key, colon, value = line.partition(":")
        if colon and key.lower() in found:
            found[key.lower()] = value.strip()
    return found["name"], found["version"]


RESERVED_COMMANDS = (
    "benchmark-input-pipeline",
    "completion",
    "doctor",
    "evaluate",
    "export",
    "launch",
    "lav",
    "params",
    "plugins",
    "predict",
    "resume",
    "runs",
    "train",
)
"""Reserved command names: those of current and planned commands of aip."""


@attrs.frozen(kw_only=True)
class Entry:
    """A record and its plugin.

    Attributes:
        record: registered record.
        plugin: plugin that registered it.
        status: "ok", or "broken" if the name is taken.
        reason: reason why it is broken.
    """

    record: PluginRecord
    plugin: Plugin
    status: Status = "ok"
    reason: str = ""

    @property
    def title(self) -> str:
        """Kind, name and source, for messages."""
        return f"The {self.record.kind} {self.record.name} of {self.plugin.source}"


def index_entries(plugins: Sequence[Plugin]) -> list[Entry]:
    """Return all records of all plugins. Records with a reserved or duplicate name are marked as broken."""
    entries = [Entry(record=record, plugin=plugin) for plugin in plugins for record in plugin.records]
    by_name: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_name.setdefault((entry.record.kind, normalize(entry.record.name)), []).append(entry)
    reserved = {normalize(name) for name in RESERVED_COMMANDS}
    checked = []
    for entry in entries:
        rivals = by_name[entry.record.kind, normalize(entry.record.name)]
        if entry.record.kind == "command" and normalize(entry.record.name) in reserved:
            reason = f"{entry.plugin.source} registers the command {entry.record.name}, which is a reserved name"
            entry = attrs.evolve(entry, status="broken", reason=reason)  # noqa: PLW2901 - the same entry, marked
        elif len(rivals) > 1:
            entry = attrs.evolve(entry, status="broken", reason=_same_name(rivals))  # noqa: PLW2901
        checked.append(entry)
    return checked


def _same_name(rivals: Sequence[Entry]) -> str:
    what = f"the {rivals[0].record.kind} {rivals[0].record.name}"
    files = [entry.plugin for entry in rivals if entry.plugin.file is not None]
    if len({(entry.plugin.name, entry.plugin.file) for entry in rivals}) == 1:
        remedy = "rename one of them" if files else f"disable it with -p no:{rivals[0].plugin.name}"
        return f"{rivals[0].plugin.source} registers {what} twice: {remedy}"
    sources = [entry.plugin.source for entry in rivals]
    both = f"{sources[0]} and {sources[1]} both register" if len(sources) == 2 else f"{' and '.join(sources)} register"
    if files:
        return f"{both} {what}: rename it in {files[-1].source}"
    # Built-in plugins can be disabled too, but only all of a kind together.
    points = dict.fromkeys(entry.plugin.name for entry in rivals if not entry.plugin.is_own)
    if len(points) == 1:
        return f"{both} {what}: disable the latter with -p no:{next(iter(points))}"
    return f"{both} {what}: disable one with {one_of(f'-p no:{name}' for name in points)}"


HOOKS: dict[str, type[PluginRecord]] = {f"{PROJECT}_{record.kind}s": record for record in RECORD_TYPES}
"""From each hook to the class of its records."""

KINDS: tuple[str, ...] = tuple(record.kind for record in RECORD_TYPES)
"""The kinds of plugins, in display order."""

SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+)+")
