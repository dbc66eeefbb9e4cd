"""The hooks of aip. Each collects the records of one kind of plugin. Implementations must not import heavy packages.

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
    WriterRecord,
    hookspec,
)

# ---- Optimizers and schedules -------------------------------------------------------------------------------------


@hookspec
def aip_optimizers() -> Iterable[OptimizerRecord]:  # type: ignore[empty-body]
    """Register optimizers for `--optimizer NAME`.

    Example::

        from aipcore.plugin import OptimizerRecord, hookimpl

        @hookimpl
        def aip_optimizers():
            return [
                OptimizerRecord(
                    name="SignSGD",
                    summary="Updates by the sign of the gradient.",
                    params="aip_plugin_sign.params:SignSGDParams",
                    build="aip_plugin_sign.optimizer:build",
                )
            ]
    """


@hookspec
def aip_schedules() -> Iterable[ScheduleRecord]:  # type: ignore[empty-body]
    """Register learning-rate schedules for `--learning_rate NAME`.

    Example::

        from aipcore.plugin import ScheduleRecord, hookimpl

        @hookimpl
        def aip_schedules():
            return [
                ScheduleRecord(
                    name="Triangle",
                    summary="Rises linearly, then falls linearly.",
                    params="aip_plugin_triangle.params:TriangleParams",
                    build="aip_plugin_triangle.schedule:build",
                )
            ]
    """


# ---- Scenarios ----------------------------------------------------------------------------------------------------


@hookspec
def aip_scenarios() -> Iterable[ScenarioRecord]:  # type: ignore[empty-body]
    """Register scenarios for `aip train NAME`.

    Example::

        from aipcore.plugin import ScenarioRecord, hookimpl

        @hookimpl
        def aip_scenarios():
            return [
                ScenarioRecord(
                    name="birdsong",
                    summary="Classifies birds by their song.",
                    build="aip_plugin_birdsong.scenario:Birdsong",
                )
            ]
    """


# ---- Callbacks, exporters, writers and commands -------------------------------------------------------------------


@hookspec
def aip_callbacks() -> Iterable[CallbackRecord]:  # type: ignore[empty-body]
    """Register callbacks for `--callbacks NAME ...`.

    Example::

        from aipcore.plugin import CallbackRecord, hookimpl

        @hookimpl
        def aip_callbacks():
            return [
                CallbackRecord(
                    name="Bell",
                    summary="Rings a bell at the end of the run.",
                    params="aip_plugin_bell.params:BellParams",
                    build="aip_plugin_bell.callback:build",
                )
            ]
    """


@hookspec
def aip_exporters() -> Iterable[ExporterRecord]:  # type: ignore[empty-body]
    """Register export formats for `--export.formats NAME ...`.

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
def aip_writers() -> Iterable[WriterRecord]:  # type: ignore[empty-body]
    """Register formats of predictions for `aip predict --output FILE`. The end of FILE selects the writer.

    Example::

        from aipcore.plugin import WriterRecord, hookimpl

        @hookimpl
        def aip_writers():
            return [
                WriterRecord(
                    name="COCO",
                    summary="Detections as a JSON file in the format of COCO (.coco.json).",
                    suffix=".coco.json",
                    build="aip_plugin_coco.writer:write",
                )
            ]
    """


@hookspec
def aip_commands() -> Iterable[CommandRecord]:  # type: ignore[empty-body]
    """Register subcommands of `aip`.

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
