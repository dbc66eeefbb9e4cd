"""Built-in callbacks."""

from __future__ import annotations

from aipcore.plugin import CallbackRecord, hookimpl

# Settings for `aip plugins check`: data that the callbacks can show, and no messages to other machines.
AIP_TESTING = {
    "SampleImages": {"images": True},
    "WandB": {"params": {"mode": "offline"}},
    "Webhook": {"params": {"url": "http://127.0.0.1:9/"}},
}


@hookimpl
def aip_callbacks() -> list[CallbackRecord]:
    """Return the callbacks of this package."""
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
            name="SampleImages",
            summary="Shows validation images with targets and predictions in TensorBoard.",
            params="aip_plugins.callbacks.observe_params:SampleImagesParams",
            build="aip_plugins.callbacks.sample_images:build",
        ),
        CallbackRecord(
            name="TerminateOnNaN",
            summary="Stops training when the loss is not finite.",
            params="aip_plugins.callbacks.params:TerminateOnNaNParams",
            build="aip_plugins.callbacks.terminate_on_nan:build",
        ),
        CallbackRecord(
            name="GradientNorm",
            summary="Records the norm of the gradients after each epoch in TensorBoard.",
            params="aip_plugins.callbacks.observe_params:GradientNormParams",
            build="aip_plugins.callbacks.gradient_norm:build",
        ),
        CallbackRecord(
            name="HParams",
            summary="Shows the run in TensorBoard's HPARAMS tab, beside other runs.",
            params="aip_plugins.callbacks.observe_params:HParamsParams",
            build="aip_plugins.callbacks.hparams_tab:build",
        ),
        CallbackRecord(
            name="LearningRateMonitor",
            summary="Records the learning rate of every optimizer update.",
            params="aip_plugins.callbacks.observe_params:LearningRateMonitorParams",
            build="aip_plugins.callbacks.learning_rate_monitor:build",
        ),
        CallbackRecord(
            name="MLflow",
            summary="Logs parameters, epochs and the outcome of the run to MLflow.",
            params="aip_plugins.callbacks.remote_params:MLflowParams",
            build="aip_plugins.callbacks.mlflow_run:build",
        ),
        CallbackRecord(
            name="SystemMetrics",
            summary="Records the use of CPU, memory and GPUs in TensorBoard.",
            params="aip_plugins.callbacks.observe_params:SystemMetricsParams",
            build="aip_plugins.callbacks.system_metrics:build",
        ),
        CallbackRecord(
            name="WandB",
            summary="Logs parameters, epochs and the outcome of the run to Weights & Biases.",
            params="aip_plugins.callbacks.remote_params:WandBParams",
            build="aip_plugins.callbacks.wandb_run:build",
        ),
        CallbackRecord(
            name="Webhook",
            summary="Notifies a URL when the run starts, ends or fails.",
            params="aip_plugins.callbacks.remote_params:WebhookParams",
            build="aip_plugins.callbacks.webhook:build",
        ),
        CallbackRecord(
            name="WeightHistograms",
            summary="Records histograms of the weights in TensorBoard.",
            params="aip_plugins.callbacks.observe_params:WeightHistogramsParams",
            build="aip_plugins.callbacks.weight_histograms:build",
        ),
    ]
