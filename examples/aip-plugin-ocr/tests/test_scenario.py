"""The scenario on files: parameters, processors, training and prediction."""

from __future__ import annotations

import logging
from pathlib import Path

import attrs
import numpy as np
import pytest
from aip_plugin_ocr.images.params import DewarpParams, LevelsParams
from aip_plugin_ocr.params import OCRParams
from aip_plugin_ocr.scenario import OCR
from pages import page_xml, print_page
from schemas import check_page

from aipcore.data.pipeline import Pipeline
from aipcore.plugin import Choice
from aipcore.scenario import Mode

HEBREW = "\u05d0\u05d1\u05d2"


def scenario(lists: list[Path], **data: object) -> OCR:
    """Return the scenario for training lists, with the alphabet of their texts."""
    params = OCRParams()
    train = attrs.evolve(params.train, lists=tuple(lists))
    params = attrs.evolve(params, train=train, data=attrs.evolve(params.data, **data))
    first = OCR(params)
    first.check()
    return OCR(first.derived_params())


def test_prepared_texts(tmp_path):
    """The alphabet and the targets are those of the normalized texts in visual order."""
    texts = [f"{HEBREW} 12", "a\u2014b", None]
    print_page(tmp_path / "a.png", ["x", "y", "z"])
    page_xml(tmp_path / "a.xml", texts)
    (tmp_path / "rules.yaml").write_text("replace:\n  '\u2014': '-'\n", encoding="utf-8")
    made = scenario([tmp_path], text_rules=tmp_path / "rules.yaml", text_direction="auto", augment=False)
    assert made.params.data.alphabet == "".join(sorted(f"{HEBREW} 12a-b"))
    with Pipeline(made.train_data(), made.processors(), mode=Mode.EVALUATION, seed=1, workers=0) as pipeline:
        targets = [made.codec.decode(sample.targets["text"].tolist()) for sample in pipeline.samples(epoch=0)]
    assert targets == [f"12 {HEBREW[::-1]}", "a-b"]
    (*_, logical) = made.post_processors()
    read = {"text": targets[0], "confidence": 1.0}
    assert logical.process(read, None) == {"text": texts[0], "confidence": 1.0, "visual": targets[0]}
    numbers = {"text": np.array(made.codec.encode(targets[0]))}
    assert made.describe(numbers, {"text": texts[0]}) == (texts[0], texts[0])


def test_a_vote_on_bidirectional_text():
    """Confidences are those of the characters in visual order, and the joint text is in logical order."""
    made = scenario([], alphabet=HEBREW, text_direction="rtl")
    (*_, logical) = made.post_processors()
    read = [("\u05d2\u05d1\u05d0", [0.9, 0.9, 0.9]), ("\u05d2\u05d1\u05d2", [0.9, 0.9, 0.5])]
    answers = [
        logical.process({"text": text, "confidence": 0.9, "confidences": np.array(each, np.float32)}, None)
        for text, each in read
    ]
    joint = made.vote_results(answers)
    assert (joint["text"], joint["visual"]) == (HEBREW, HEBREW[::-1])
    np.testing.assert_allclose(joint["confidences"], [0.9, 0.9, 0.45], rtol=1e-6)


def test_processors_of_images(tmp_path):
    """Processors are applied in the given order, with their parameters."""
    print_page(tmp_path / "a.png", ["one"])
    page_xml(tmp_path / "a.xml", ["one"])
    chosen = (Choice("Levels", LevelsParams(dark=2)), Choice("Dewarp", DewarpParams()))
    made = scenario([tmp_path], image_processors=chosen)
    names = [type(each).__name__ for each in made.processors()]
    assert names[:4] == ["PrepareText", "Levels", "Dewarp", "ScaleToHeight"]
    with Pipeline(made.train_data(), made.processors(), mode=Mode.EVALUATION, seed=1, workers=0) as pipeline:
        (sample,) = pipeline.samples(epoch=0)
    assert sample.inputs["image"].shape[1:] == (32, 1)


def test_lines_that_are_left_out(tmp_path, caplog):
    """A message gives the number of lines without text, once for each data set."""
    print_page(tmp_path / "a.png", ["x", "y"])
    page_xml(tmp_path / "a.xml", ["one", None])
    with caplog.at_level(logging.INFO):
        made = scenario([tmp_path])
        made.train_data()
    assert [record.message for record in caplog.records if record.name == "aip_plugin_ocr"] == [
        "1 of 2 training lines have no text and are left out.",
        "Of the files of training lines, 1 are images of pages and not lines.",
    ]


@pytest.mark.slow
def test_page_to_page(tmp_path):
    """A model is trained on pages, and its predictions become a valid copy, with the texts that it reads."""
    import aipcore as aip
    from aipcore.hooks.manager import get_plugin_manager
    from aipcore.prediction.writers import find_writer, write_predictions

    texts = ["ab", "ba", "aab", "bba"]
    print_page(tmp_path / "a.png", texts)
    page_xml(tmp_path / "a.xml", texts)
    (tmp_path / "rules.yaml").write_text("form: NFC\n", encoding="utf-8")
    aip.train(
        "ocr",
        {
            "train.lists": [tmp_path],
            "val.lists": [tmp_path],
            "trainer.epochs": 1,
            "data.text_rules": tmp_path / "rules.yaml",
            "data.image_processors": ["Levels"],
            "model.layers": "conv=4,pool=2x2,conv=4,pool=2x2,lstm=8",
        },
        output_dir=tmp_path / "run",
    )
    assert list((tmp_path / "run" / "best").rglob("rules.yaml"))
    predictor = aip.Predictor.load(tmp_path / "run" / "best", params={"data.files": [str(tmp_path / "a.xml")]})
    found = list(predictor.predict_data())
    output = tmp_path / "read.pages"
    own = predictor.scenario.prediction_writers()
    writer = find_writer(output, get_plugin_manager(), own=own)
    assert write_predictions(output, found, {}, writer) == 4
    content = (output / "a.pred.xml").read_bytes()
    check_page(content)
    lines = predictor.scenario.source([tmp_path / "a.xml"], targets=False).lines
    assert [line.record.texts for line in lines] == [{0: text} for text in texts]
    (tmp_path / "a.xml").write_bytes(content)
    lines = predictor.scenario.source([tmp_path / "a.xml"], targets=False).lines
    assert [line.record.texts for line in lines] == [
        {0: text, 1: each.outputs["text"]} for text, each in zip(texts, found, strict=True)
    ]
