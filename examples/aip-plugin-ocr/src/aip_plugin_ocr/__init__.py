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
            name="ocr-import",
            summary="Import a model of Calamari 2.",
            build="aip_plugin_ocr.calamari.command:command",
        ),
    ]
