"""Parameters of the scenario `ocr`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aip_plugins.scenarios.text_line_recognition.params import TextLineData, TextLineParams

from aip_plugin_ocr.calamari.params import CalamariParams
from aip_plugin_ocr.decoding.params import DECODERS, BeamSearch, BestPath
from aip_plugin_ocr.images.params import BackgroundParams, DewarpParams, LevelsParams
from aip_plugin_ocr.network.layers import DEFAULT, LAYERS, parse_layers
from aip_plugin_ocr.text.direction import Direction
from aipcore.plugin import Choice, at_least, component, components, field, group, params
from aipcore.scenario import ModelParams


@params
class OCRData(TextLineData):
    """Lines of text and their preparation."""

    text_index: int = field(0, help="Index of the text to learn, in PageXML and ALTO files.", check=at_least(0))
    prediction_index: int = field(1, help="Index of predicted texts in copies of PageXML files.", check=at_least(0))
    page_images: Path | None = field(None, help="Folder of the page images, if they are not beside the XML files.")
    text_rules: Path | None = field(None, help="YAML file with rules that normalize the texts to learn.", resource=True)
    text_direction: Direction = field(
        "none",
        help="Direction of bidirectional text. Lines are learned in visual order, and predictions are in logical "
        "order. `auto` is the direction of most letters of the line. `none` changes nothing.",
    )
    image_processors: tuple[Choice[Any], ...] = components(
        {"Dewarp": DewarpParams, "Levels": LevelsParams, "Background": BackgroundParams, "Calamari": CalamariParams},
        help="Processors of line images, in this order, before they are scaled.",
    )
    decoder: Choice[BestPath | BeamSearch] = component(
        DECODERS, default="best_path", help="Decoder of the outputs. aip lav and aip predict can change it."
    )


@params
class OCRModel(ModelParams):
    """The network."""

    layers: tuple[Choice[Any], ...] = components(
        LAYERS,
        default=DEFAULT,
        repeat=True,
        convert=parse_layers,
        help="Layers of the network in order. A text is allowed too: conv=40:3x3,pool=2x2,lstm=200,dropout=0.5.",
    )


@params
class OCRParams(TextLineParams):
    """Parameters of text recognition."""

    data: OCRData = group(OCRData, help="Lines of text and their preparation.")
    model: OCRModel = group(OCRModel, help="The network.")
