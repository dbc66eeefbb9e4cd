"""Shipped callbacks."""

from __future__ import annotations

from aipcore.plugin import CallbackRecord, hookimpl

# How the checks of aip plugins check run them: sending nothing to anyone.
AIP_TESTING = {
    "WandB": {"params": {"mode": "offline"}},
    "Webhook": {"params": {"url": "http://127.0.0.1:9/"}},
}


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
        CallbackRecord(
            name="MLflow",
            summary="Logs parameters, epochs and the end of the run to MLflow.",
            params="aip_plugins.callbacks.remote_params:MLflowParams",
            build="aip_plugins.callbacks.mlflow_run:build",
        ),
        CallbackRecord(
            name="WandB",
            summary="Logs parameters, epochs and the end of the run to Weights & Biases.",
            params="aip_plugins.callbacks.remote_params:WandBParams",
            build="aip_plugins.callbacks.wandb_run:build",
        ),
        CallbackRecord(
            name="Webhook",
            summary="Tells a URL when the run starts, ends or fails.",
            params="aip_plugins.callbacks.remote_params:WebhookParams",
            build="aip_plugins.callbacks.webhook:build",
        ),
    ]
