"""Built-in exporters."""

from __future__ import annotations

from aipcore.plugin import ExporterRecord, hookimpl


@hookimpl
def aip_exporters() -> list[ExporterRecord]:
    """Return the exporters of this package."""
    return [
        ExporterRecord(
            name="SavedModel",
            summary="TensorFlow SavedModel with a serving signature, usable without aip.",
            params="aip_plugins.exporters.params:SavedModelParams",
            build="aip_plugins.exporters.saved_model:build",
            load="aip_plugins.exporters.saved_model:load",
        ),
        ExporterRecord(
            name="Keras",
            summary="Keras file (model.keras) for further work in Python.",
            params="aip_plugins.exporters.params:KerasParams",
            build="aip_plugins.exporters.keras_file:build",
            load="aip_plugins.exporters.keras_file:load",
        ),
        ExporterRecord(
            name="ONNX",
            summary="ONNX file (model.onnx) for ONNX Runtime and other inference engines.",
            params="aip_plugins.exporters.params:OnnxParams",
            build="aip_plugins.exporters.onnx_file:build",
            load="aip_plugins.exporters.onnx_file:load",
            packages=("onnx", "tf2onnx", "onnxruntime"),
            install="aipcore[onnx]",
        ),
        ExporterRecord(
            name="LiteRT",
            summary="LiteRT file (model.tflite, formerly TensorFlow Lite) for phones and small devices.",
            params="aip_plugins.exporters.params:LiteRTParams",
            build="aip_plugins.exporters.litert_file:build",
            load="aip_plugins.exporters.litert_file:load",
            tolerance="aip_plugins.exporters.params:litert_tolerance",
            packages=("ai_edge_litert",),
            install="aipcore[litert]",
        ),
    ]
