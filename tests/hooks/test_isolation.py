"""A broken plugin is reported with its reason and does not affect other plugins."""

from __future__ import annotations

from typing import Any

import pytest

from aipcore.errors import PluginError
from aipcore.hooks.discovery import Plugin
from aipcore.params import Choice, Layer, component, from_dict, params, resolve, to_dict

RECORD = "from aipcore.plugin import OptimizerRecord, hookimpl\n@hookimpl\ndef aip_optimizers():\n    "
MADE = 'OptimizerRecord(name="Odd", summary="Odd.", params="odd:Params", build="odd:build")'

BROKEN = {
    "no module": (None, "cannot be imported: ModuleNotFoundError: No module named 'odd'"),
    "syntax": ("def (", "cannot be imported: SyntaxError"),
    "raises": ("raise ValueError('no\\n  luck')", "cannot be imported: ValueError: no luck"),
    "exits": ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    "empty": ("", "implements no hook in odd: define one of aip_optimizers, aip_schedules"),
    "hook raises": (RECORD + "1 / 0", "fails in its hook aip_optimizers: ZeroDivisionError: division by zero"),
    "generator raises": (
        RECORD + f"yield {MADE}\n    raise OSError('gone')",
        "fails in its hook aip_optimizers: OSError: gone",
    ),
    "returns a record": (
        RECORD + f"return {MADE}",
        "returns an OptimizerRecord from aip_optimizers, which must",
    ),
    "returns text": (RECORD + "return ['Odd']", "returns a list with a str from aip_optimizers"),
    "other kind": (
        RECORD + f"from aipcore.plugin import CallbackRecord\n    return [CallbackRecord{MADE[15:]}]",
        "returns a list with a CallbackRecord from aip_optimizers, which must return a list of OptimizerRecord",
    ),
    "bad name": (RECORD + f"return [{MADE.replace('Odd', 'Very odd', 1)}]", "may contain only letters, digits, -"),
    "no summary": (RECORD + f"return [{MADE.replace('Odd.', ' ')}]", "registers the optimizer 'Odd' without a summary"),
    "bad build": (RECORD + f"return [{MADE.replace('odd:build', 'odd')}]", "with build='odd': it must have the form"),
    "bad suffix": (
        "from aipcore.plugin import WriterRecord, hookimpl\n@hookimpl\ndef aip_writers():\n    "
        "return [WriterRecord(name='Odd', summary='Odd.', build='odd:write', suffix='csv')]",
        "registers the writer 'Odd' with suffix='csv': it must be the end of a file name, as in .csv",
    ),
    "bad params": (RECORD + f"return [{MADE.replace('odd:Params', '3:x')}]", "with params='3:x': it must have"),
    "lacks a field": (RECORD + "return [OptimizerRecord(name='Odd')]", "fails in its hook aip_optimizers: TypeError"),
    "misspelt hook": (
        (RECORD + f"return [{MADE}]").replace("aip_optimizers", "aip_optimisers"),
        "implements the unknown hook aip_optimisers; did you mean aip_optimizers?",
    ),
    "unlike any hook": (
        (RECORD + "return []").replace("aip_optimizers", "setup"),
        "implements the unknown hook setup; available: aip_optimizers, aip_schedules",
    ),
    "unmarked": (
        (RECORD + "return []").replace("@hookimpl\n", ""),
        "does not mark its function aip_optimizers as a hook: decorate it with @hookimpl",
    ),
    "unmarked and misspelt": (
        (RECORD + "return []").replace("@hookimpl\n", "").replace("aip_optimizers", "aip_optimiser"),
        "aip_optimiser is not a hook; did you mean aip_optimizers?",
    ),
    "argument": (
        (RECORD + "return []").replace("aip_optimizers()", "aip_optimizers(config)"),
        "cannot be registered: PluginValidationError",
    ),
    "newer API": (
        f"AIP_API = 2\n{RECORD}return []",
        "targets version 2 of the plugin API, but this aip has version 1",
    ),
    "older API": (
        f"AIP_API = 0\n{RECORD}return []",
        "targets version 0 of the plugin API, but this aip has version 1",
    ),
    "odd API": (f"AIP_API = '1'\n{RECORD}return []", "has AIP_API = '1', which is not a whole number"),
}


def only(plugins: list[Plugin]) -> Plugin:
    """Return the only third-party plugin."""
    (plugin,) = [plugin for plugin in plugins if not plugin.is_own and plugin.name == "odd"]
    return plugin


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_is_reported(case, install, load, optimizer):
    """A broken plugin is listed with the reason, and the plugins before and after it work."""
    source, reason = BROKEN[case]
    install("aip-plugin-a", optimizer("Before"))
    install("odd", source)
    install("zz", optimizer("After"))
    manager = load()
    plugin = only(manager.plugins)
    assert plugin.status == "broken"
    assert reason in plugin.reason
    assert "\n" not in plugin.reason
    assert plugin.records == ()
    assert {"Adam", "Before", "After"} <= set(manager.names("optimizer"))


@pytest.mark.parametrize("source", [RECORD + "return None", RECORD + "return []", RECORD + "pass"])
def test_registering_nothing_is_allowed(source, install, load):
    """A plugin may register nothing."""
    install("odd", source)
    assert only(load().plugins).status == "ok"


def test_declared_current_version_is_compatible(install, load):
    """A plugin that declares the current API version loads."""
    install("odd", f"AIP_API = 1\n{RECORD}return [{MADE}]")
    assert only(load().plugins).status == "ok"


def test_plugin_knows_its_origin(install, load, optimizer):
    """Entry-point name, distribution, version and load time of each plugin are known; its README cannot forge them."""
    install("aip-plugin-odd", optimizer("Odd"), version="2.3.4", entry_points={"odd": "aip_plugin_odd"})
    plugin = only(load().plugins)
    assert (plugin.name, plugin.distribution, plugin.version) == ("odd", "aip-plugin-odd", "2.3.4")
    assert plugin.seconds > 0
    assert [record.name for record in plugin.records] == ["Odd"]


def test_entry_point_may_name_an_object(install, load, optimizer):
    """A plugin may be an object with hook methods instead of a module."""
    source = f"""
from aipcore.plugin import OptimizerRecord, hookimpl
class Plugin:
    @hookimpl
    def aip_optimizers(self):
        yield {MADE}
plugin = Plugin()
"""
    install("odd", source, entry_points={"odd": "odd:plugin"})
    manager = load()
    assert only(manager.plugins).status == "ok"
    assert manager.canonical("optimizer", "ODD") == "Odd"


@pytest.mark.parametrize(
    "params",
    [
        "'odd_missing:Params'",
        "'odd:Missing'",
        "dict",
        "'odd:build'",
        "'odd:Wrong'",
        "'odd:Bare'",
    ],
)
def test_wrong_params_class_is_an_error_on_use(params, install, load, optimizer, refused: Any):
    """The record is listed, and selecting it reports the fault and its plugin."""
    source = optimizer("Odd").replace("params=Params", f"params={params}")
    source += """
from aipcore.plugin import CallbackParams
@params
class Wrong(CallbackParams):
    '''Of another kind.'''
class Bare(OptimizerParams):
    '''Not made a parameter class.'''
"""
    install("odd", source)
    manager = load()
    assert "Odd" in manager.names("optimizer")
    with refused(PluginError):
        manager.params_class("optimizer", "odd")


def test_build_that_cannot_be_imported_is_an_error_on_use(install, load, optimizer, refused: Any):
    """The error names plugin, distribution, reference and cause."""
    install("odd", optimizer("Odd").replace('__name__ + ":build"', '"odd.nowhere:build"'))
    with refused(PluginError):
        load().load_build("optimizer", "Odd")


def test_build_is_imported_on_use(install, load, optimizer):
    """`load_build` returns the callable, which creates the object."""
    install("odd", optimizer("Odd"))
    manager = load()
    params = manager.params_class("optimizer", "o-d_d")()
    assert manager.load_build("optimizer", "odd")(params, 0.1) == (0.5, 0.1)


def test_two_records_can_share_parameters(install, load, optimizer):
    """Each choice keeps its name, in Python and in the recorded parameters."""
    source = optimizer("Odd").replace("return [", "return [OptimizerRecord(name='Even', summary='Made up.', "
                                      "params=Params, build=__name__ + ':build'), ")  # fmt: skip
    install("odd", source)
    manager = load()
    assert manager.params_class("optimizer", "Even") is manager.params_class("optimizer", "Odd")

    @params
    class Root:
        optimizer: object = component("optimizer", default="Odd", help="The optimizer.")

    for name in ("Odd", "Even"):
        made = resolve(Root, [Layer.from_arguments(["--optimizer", name, "--optimizer.twist", "2"])], manager).value
        assert (made.optimizer.name, made.optimizer.params.twist) == (name, 2.0)
        assert from_dict(Root, to_dict(made), manager) == made
        assert manager.builder("optimizer", made.optimizer)(0.1) == (2.0, 0.1)


def test_parameters_of_another_plugin_are_refused(load, refused: Any):
    """A choice with the wrong parameters in Python is an error of one sentence."""
    manager = load()
    wrong = Choice("SGD", manager.params_class("optimizer", "Adam")())
    with refused(PluginError):
        manager.builder("optimizer", wrong)
