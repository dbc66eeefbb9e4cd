"""Shipped callbacks."""

from __future__ import annotations

from aipcore.plugin import CallbackRecord, hookimpl


@hookimpl
def aip_callbacks() -> list[CallbackRecord]:
    """The callbacks of this package."""
    return [
        CallbackRecord(
            name="CSVLog",
            summary="Writes the losses and metrics of each epoch to a CSV file.",
            params="aip_plugins.callbacks.params:CSVLogParams",
            build="aip_plugins.callbacks.csv_log:build",
        ),
        CallbackRecord(
            name="ReduceOnPlateau",
            summary="Lowers the learning rate when the monitored value stops improving.",
            params="aip_plugins.callbacks.params:ReduceOnPlateauParams",
            build="aip_plugins.callbacks.reduce_on_plateau:build",
        ),
        CallbackRecord(
            name="TerminateOnNaN",
            summary="Ends the run as soon as the loss is not a finite number.",
            params="aip_plugins.callbacks.params:TerminateOnNaNParams",
            build="aip_plugins.callbacks.terminate_on_nan:build",
        ),
    ]
