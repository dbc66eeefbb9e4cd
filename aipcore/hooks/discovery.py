"""Discovery of plugins: the installed entry points, the switches that disable them, and checks of their records."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from types import ModuleType
from typing import Any, Literal

import attrs

from aipcore.errors import PluginError, sentence
from aipcore.hooks.records import API_VERSION, PROJECT, RECORD_TYPES, PluginRecord, WriterRecord
from aipcore.params.names import nearest, normalize, one_of

OWN_DISTRIBUTION = "aipcore"

Status = Literal["ok", "disabled", "broken"]


@attrs.frozen(kw_only=True)
class Plugin:
    """An entry point and the result of loading it.

    Attributes:
        name: name of the entry point, as in `-p no:NAME`.
        module: target of the entry point: a module or `module:attribute`.
        distribution: name of the installed package.
        version: version of that package.
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
    status: Status = "ok"
    reason: str = ""
    error: BaseException | None = attrs.field(default=None, repr=False, eq=False)
    seconds: float = 0.0
    records: tuple[PluginRecord, ...] = ()

    @property
    def is_own(self) -> bool:
        """True for built-in plugins."""
        return normalize(self.distribution) == OWN_DISTRIBUTION

    @property
    def source(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}"

    def answers_to(self, name: str) -> bool:
        """Return True if `name` is the entry point or the distribution of this plugin."""
        return normalize(name) in (normalize(self.name), normalize(self.distribution))


@attrs.frozen(kw_only=True)
class Switches:
    """The switches that disable plugins.

    Attributes:
        disabled: entry points or distributions from `-p no:NAME`.
        third_party: True if third-party plugins are loaded; `--no-plugins` disables them.
        only: third-party entry points or distributions to load, from `AIP_LOAD_PLUGINS`; None for all.
        strict: if True, a broken plugin is an error; from `AIP_STRICT_PLUGINS=1`.
    """

    disabled: tuple[str, ...] = ()
    third_party: bool = True
    only: tuple[str, ...] | None = None
    strict: bool = False

    @classmethod
    def from_environment(cls, *, disabled: Sequence[str] = (), third_party: bool = True) -> Switches:
        """Combine the switches of the command line with those of the environment."""
        only = os.environ.get("AIP_LOAD_PLUGINS")
        return cls(
            disabled=tuple(disabled),
            third_party=third_party,
            only=None if only is None else tuple(name.strip() for name in only.split(",") if name.strip()),
            strict=os.environ.get("AIP_STRICT_PLUGINS", "") not in ("", "0"),
        )

    def reason_against(self, plugin: Plugin) -> str:
        """Return the reason why a plugin is disabled; empty if it is enabled."""
        for name in self.disabled:
            if plugin.answers_to(name):
                return f"disabled by -p no:{name}"
        if plugin.is_own:
            return ""
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
    if len({entry.plugin.name for entry in rivals}) == 1:
        return f"{rivals[0].plugin.source} registers {what} twice: disable it with -p no:{rivals[0].plugin.name}"
    sources = [entry.plugin.source for entry in rivals]
    both = f"{sources[0]} and {sources[1]} both register" if len(sources) == 2 else f"{' and '.join(sources)} register"
    # Built-in plugins can be disabled too, but only all of a kind together.
    points = dict.fromkeys(entry.plugin.name for entry in rivals if not entry.plugin.is_own)
    if len(points) == 1:
        return f"{both} {what}: disable the latter with -p no:{next(iter(points))}"
    return f"{both} {what}: disable one with {one_of(f'-p no:{name}' for name in points)}"


HOOKS: dict[str, type[PluginRecord]] = {f"{PROJECT}_{record.kind}s": record for record in RECORD_TYPES}
"""From each hook to the class of its records."""

KINDS: tuple[str, ...] = tuple(record.kind for record in RECORD_TYPES)
"""The kinds of plugins, in display order."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+)+")
REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class BrokenPluginError(Exception):
    """A plugin that cannot be used. The message completes a sentence that begins with the plugin."""


def import_plugin(point: EntryPoint) -> Any:
    """Import the target of an entry point, and check its API version and the names of its hooks.

    Raises:
        BrokenPluginError: it cannot be imported, targets another API version, or has unknown hooks.
    """
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"cannot be imported: {sentence(error)}") from error
    _check_version(plugin)
    _check_hooks(plugin, point.value)
    return plugin


def _check_version(plugin: Any) -> None:
    wanted = getattr(plugin, "AIP_API", API_VERSION)
    if wanted == API_VERSION:
        return
    if not isinstance(wanted, int):
        raise BrokenPluginError(f"has AIP_API = {wanted!r}, which is not a whole number: set it to {API_VERSION}")
    remedy = "upgrade aipcore" if wanted > API_VERSION else "upgrade the plugin"
    raise BrokenPluginError(
        f"targets version {wanted} of the plugin API, but this aip has version {API_VERSION}: {remedy}"
    )


def _check_hooks(plugin: Any, target: str) -> None:
    unmarked: list[str] = []
    found = False
    # Only the module's own attributes: a lookup of lazy attributes could import anything.
    names = list(vars(plugin)) if isinstance(plugin, ModuleType) else dir(plugin)
    for name in names:
        routine = getattr(plugin, name, None)
        if not inspect.isroutine(routine):
            continue
        marker = getattr(routine, f"{PROJECT}_impl", None)
        if marker is None:
            if name.startswith(f"{PROJECT}_"):
                unmarked.append(name)
            continue
        found = True
        hook = marker["specname"] or name
        if hook not in HOOKS:
            raise BrokenPluginError(f"implements the unknown hook {hook}; {_meant(hook)}")
    for name in unmarked:
        if name in HOOKS:
            raise BrokenPluginError(f"does not mark its function {name} as a hook: decorate it with @hookimpl")
    if not found:
        like = [name for name in unmarked if nearest(name, HOOKS)]
        hint = f"{like[0]} is not a hook; {_meant(like[0])}" if like else f"define one of {', '.join(HOOKS)}"
        raise BrokenPluginError(f"implements no hook in {target}: {hint}")


def _meant(hook: str) -> str:
    near = nearest(hook, HOOKS)
    return f"did you mean {near[0]}?" if near else f"available: {', '.join(HOOKS)}"


def collect(call: Callable[[], list[Any]], hook: str) -> list[PluginRecord]:
    """Return the records from one hook of one plugin.

    Args:
        call: function that calls the implementations and returns the list of their results.
        hook: name of the hook.

    Raises:
        BrokenPluginError: the hook raises, or returns anything but valid records.
    """
    records: list[PluginRecord] = []
    try:
        for given in call():
            records.extend(_records(hook, given))
    except BrokenPluginError:
        raise
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"fails in its hook {hook}: {sentence(error)}") from error
    return records


def _records(hook: str, given: Any) -> list[PluginRecord]:
    wanted = HOOKS[hook]
    if not isinstance(given, Iterable):
        raise BrokenPluginError(f"returns {_kind_of(given)} from {hook}, which must return a list of {wanted.__name__}")
    records = list(given)
    for record in records:
        if not isinstance(record, wanted):
            raise BrokenPluginError(
                f"returns a list with {_kind_of(record)} from {hook}, which must return a list of {wanted.__name__}"
            )
        _check_record(record)
    return records


def _check_record(record: PluginRecord) -> None:
    what = f"registers the {record.kind} {record.name!r}"
    if not (isinstance(record.name, str) and NAME.fullmatch(record.name)):
        raise BrokenPluginError(f"{what}, whose name may contain only letters, digits, - and _")
    if not (isinstance(record.summary, str) and record.summary.strip()):
        raise BrokenPluginError(f"{what} without a summary: describe it in one sentence")
    if isinstance(record, WriterRecord) and not (isinstance(record.suffix, str) and SUFFIX.fullmatch(record.suffix)):
        raise BrokenPluginError(f"{what} with suffix={record.suffix!r}: it must be the end of a file name, as in .csv")
    references = {"build": record.build}
    # Not every kind has parameters.
    params = getattr(record, "params", record.build)
    if not isinstance(params, type):
        references["params"] = params
    load = getattr(record, "load", None)
    if load is not None:
        references["load"] = load
    for field, reference in references.items():
        if not (isinstance(reference, str) and REFERENCE.fullmatch(reference)):
            raise BrokenPluginError(f'{what} with {field}={reference!r}: it must have the form "module:attribute"')


def _kind_of(value: Any) -> str:
    if value is None:
        return "None"
    article = "an" if type(value).__name__[0] in "AEIOUaeiou" else "a"
    return f"{article} {type(value).__name__}"
