"""The hooks of aip. Each collects the records of one kind of plugin; none of them should import anything heavy.

A plugin is a module named by an entry point of the group `aip`. It implements any of these hooks::

    [project.entry-points.aip]
    mine = "aip_plugin_mine"
"""

from __future__ import annotations

from collections.abc import Iterable

from aipcore.hooks.records import (
    CallbackRecord,
    CommandRecord,
    ExporterRecord,
    OptimizerRecord,
    ScenarioRecord,
    ScheduleRecord,
    hookspec,
)

# ---- What computes an update --------------------------------------------------------------------------------------


@hookspec
def aip_optimizers() -> Iterable[OptimizerRecord]:  # type: ignore[empty-body]
    """Optimizers that `--optimizer NAME` can choose.

    Example::

        from aipcore.plugin import OptimizerRecord, hookimpl

        @hookimpl
        def aip_optimizers():
            return [
                OptimizerRecord(
                    name="SignSGD",
                    summary="Steps by the sign of the gradient.",
                    params="aip_plugin_sign.params:SignSGDParams",
                    build="aip_plugin_sign.optimizer:build",
                )
            ]
    """


@hookspec
def aip_schedules() -> Iterable[ScheduleRecord]:  # type: ignore[empty-body]
    """Learning-rate schedules that `--learning_rate NAME` can choose.

    Example::

        from aipcore.plugin import ScheduleRecord, hookimpl

        @hookimpl
        def aip_schedules():
            return [
                ScheduleRecord(
                    name="Triangle",
                    summary="Up and down again, linearly.",
                    params="aip_plugin_triangle.params:TriangleParams",
                    build="aip_plugin_triangle.schedule:build",
                )
            ]
    """


# ---- What is trained ----------------------------------------------------------------------------------------------


@hookspec
def aip_scenarios() -> Iterable[ScenarioRecord]:  # type: ignore[empty-body]
    """Scenarios that `aip train NAME` can train.

    Example::

        from aipcore.plugin import ScenarioRecord, hookimpl

        @hookimpl
        def aip_scenarios():
            return [
                ScenarioRecord(
                    name="birdsong",
                    summary="Tells birds by their song.",
                    build="aip_plugin_birdsong.scenario:Birdsong",
                )
            ]
    """


# ---- What happens around training ---------------------------------------------------------------------------------


@hookspec
def aip_callbacks() -> Iterable[CallbackRecord]:  # type: ignore[empty-body]
    """Callbacks that `--callbacks NAME ...` can choose.

    Example::

        from aipcore.plugin import CallbackRecord, hookimpl

        @hookimpl
        def aip_callbacks():
            return [
                CallbackRecord(
                    name="Bell",
                    summary="Rings when the run is over.",
                    params="aip_plugin_bell.params:BellParams",
                    build="aip_plugin_bell.callback:build",
                )
            ]
    """


@hookspec
def aip_exporters() -> Iterable[ExporterRecord]:  # type: ignore[empty-body]
    """Formats that `--export.formats NAME ...` can choose.

    Example::

        from aipcore.plugin import ExporterRecord, hookimpl

        @hookimpl
        def aip_exporters():
            return [
                ExporterRecord(
                    name="Weights",
                    summary="The weights as one NumPy file.",
                    params="aip_plugin_weights.params:WeightsParams",
                    build="aip_plugin_weights.exporter:build",
                )
            ]
    """


@hookspec
def aip_commands() -> Iterable[CommandRecord]:  # type: ignore[empty-body]
    """Subcommands of `aip`.

    Example::

        from aipcore.plugin import CommandRecord, hookimpl

        @hookimpl
        def aip_commands():
            return [
                CommandRecord(
                    name="hello",
                    summary="Greets.",
                    build="aip_plugin_hello.cli:command",
                )
            ]
    """
