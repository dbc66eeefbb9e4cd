"""Registration of the scenario `ocr`, its commands, callbacks and writers."""

from aipcore.plugin import CommandRecord, ScenarioRecord, hookimpl

AIP_API = 1


@hookimpl
def aip_scenarios() -> list[ScenarioRecord]:
    """Return the scenario."""
    return [
        ScenarioRecord(
            name="ocr",
            summary="Recognizes lines of text in images, PageXML, ALTO and HDF5 files.",
            build="aip_plugin_ocr.scenario:OCR",
        )
    ]


@hookimpl
def aip_commands() -> list[CommandRecord]:
    """Return the commands."""
    return [
        CommandRecord(
            name="ocr-train",
            summary="Train text recognition with augmentation, then without.",
            build="aip_plugin_ocr.stages.command:command",
        ),
        CommandRecord(
            name="ocr-report",
            summary="Report the errors of text recognition, also as a page.",
            build="aip_plugin_ocr.reports.command:command",
        ),
        CommandRecord(
            name="ocr-import",
            summary="Import a model of Calamari 2.",
            build="aip_plugin_ocr.calamari.command:command",
        ),
    ]


# A small network and few lines, so that a few hundred updates are fast.
AIP_TESTING = {
    "ocr": {
        "params": {"data.printed_lines": 60, "model.layers": "conv=16:3x3,pool=2x2,conv=32:3x3,pool=2x2,lstm=64"},
        "steps": 150,
    }
}
