"""Text lines and images after a warm start from a model of other characters or classes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aip_plugins.scenarios.image_classification.params import ImageData, ImageParams
from aip_plugins.scenarios.image_classification.scenario import ImageClassification
from aip_plugins.scenarios.text_line_recognition.codec import alphabet_of
from aip_plugins.scenarios.text_line_recognition.params import TextLineData, TextLineParams
from aip_plugins.scenarios.text_line_recognition.printing import PrintedLines
from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition

import aipcore as aip
from aipcore.errors import ParamsError
from aipcore.scenario import Sample
from aipcore.training.request import request_of

TEXTS = alphabet_of(PrintedLines(10, 1).texts())
NEW = "".join(each for each in TEXTS if each not in "zeta")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Write the record of a model that reads the characters z, e, t and a."""
    about = {"scenario": {"name": "text_line_recognition", "kind": "plugin", "reference": "text_line_recognition"}}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "aip.json").write_text(json.dumps({**about, "params": {"data": {"alphabet": "zeta"}}}))
    return folder


def alphabet(source: Path, **data: Any) -> str:
    """Return the alphabet of a run that starts from a model."""
    given = {"warmstart.model": source, "data": {"printed_lines": 10, **data}}
    found: str = request_of(TextLineRecognition, given, None).checked().value.data.alphabet
    return found


def test_alphabet_modes(recorded: Path, tmp_path: Path) -> None:
    """Characters of the source keep their positions and new ones follow, unless an alphabet replaces them."""
    assert alphabet(recorded) == alphabet(recorded, alphabet_mode="extend") == "zeta" + NEW
    assert alphabet(recorded, alphabet_mode="replace") == TEXTS
    assert (
        alphabet(recorded, alphabet_mode="keep") == alphabet(recorded, alphabet_mode="keep", alphabet="zeta") == "zeta"
    )
    assert alphabet(recorded, alphabet="bat") == "bat"
    assert alphabet(recorded, alphabet="bat", alphabet_mode="extend") == "zetab"
    codec = tmp_path / "codec.txt"
    codec.write_text("y\nx\ne\n")
    assert alphabet(recorded, codec=codec) == "yxe"
    assert alphabet(recorded, codec=codec, alphabet_mode="extend") == "zetayx"
    # The recorded result of a run has the same alphabet, as in a fold that begins after a resume.
    assert alphabet(recorded, alphabet="zetayx", codec=codec, alphabet_mode="extend") == "zetayx"


def test_alphabets_that_are_refused(recorded: Path, tmp_path: Path) -> None:
    """An alphabet to keep or extend must exist, and an alphabet that is kept cannot be another."""
    with pytest.raises(
        ParamsError, match=r"^--data.alphabet_mode keep uses the alphabet of the warm start's model, wh"
    ):
        alphabet(recorded, alphabet_mode="keep", alphabet="bat")
    (recorded / "aip.json").write_text((recorded / "aip.json").read_text().replace('"zeta"', '["z"]'))
    assert alphabet(recorded) == TEXTS
    for mode in ("keep", "extend"):
        with pytest.raises(
            ParamsError, match=f"^--data.alphabet_mode {mode} needs the alphabet of {recorded}, which has"
        ):
            alphabet(recorded, alphabet_mode=mode)
        with pytest.raises(
            ParamsError, match=f"^--data.alphabet_mode {mode} needs an alphabet. Pass --warmstart.model"
        ):
            request_of(TextLineRecognition, {"data.alphabet_mode": mode}, None).checked()
    with pytest.raises(ParamsError, match="alphabet_mode"):
        request_of(TextLineRecognition, {"data.alphabet_mode": "new"}, None).checked()


def test_alphabets_are_unambiguous(tmp_path: Path) -> None:
    """A character that occurs twice, or a codec that an alphabet overrides, is an error."""
    (tmp_path / "codec.txt").write_text("y\nx\n")
    for data, message in (
        ({"alphabet": "aba"}, "^--data.alphabet contains 'a' twice"),
        (
            {"alphabet": "ax", "codec": tmp_path / "codec.txt"},
            "^--data.alphabet lacks characters of --data.codec .*'y'",
        ),
    ):
        with pytest.raises(ParamsError, match=message):
            request_of(TextLineRecognition, {"data": data}, None).checked()


def texts(here: str, **data: Any) -> TextLineRecognition:
    """Return the scenario with an alphabet."""
    return TextLineRecognition(TextLineParams(data=TextLineData(alphabet=here, printed_lines=10, **data)))


@pytest.mark.parametrize("here", ["zetab", "bet", "ateb", "eatz", "xy"])
def test_known_characters_keep_their_weights(here: str) -> None:
    """The blank and known characters have the source's columns, new ones their initial values; others are untouched."""
    generator = np.random.default_rng(0)
    before = {"data.alphabet": "zeta"}
    for path, shape in {"characters/kernel": (6,), "characters/bias": ()}.items():
        source = generator.normal(size=(*shape, 5)).astype(np.float32)
        fresh = generator.normal(size=(*shape, len(here) + 1)).astype(np.float32)
        adapted = texts(here).adapt_weights(path, source, fresh, before)
        np.testing.assert_array_equal(adapted[..., 0], source[..., 0])
        for number, character in enumerate(here, start=1):
            at = "zeta".find(character) + 1
            np.testing.assert_array_equal(adapted[..., number], source[..., at] if at else fresh[..., number])
        assert texts(here).adapt_weights(path, source[..., :4], fresh, before) is None
    assert texts(here).adapt_weights("line/forward_lstm/lstm_cell/kernel", source, fresh, before) is None


def test_messages_about_characters(caplog: pytest.LogCaptureFixture) -> None:
    """One line lists new characters and those left out; a source without a record gets a warning."""
    caplog.set_level(logging.INFO, "aipcore")
    source, fresh = np.zeros((6, 5)), np.zeros((6, 5))
    for path in ("characters/kernel", "characters/bias"):
        texts("batx").adapt_weights(path, source, fresh, {"data.alphabet": "zeta"})
        texts("zeta").adapt_weights(path, source, fresh, {"data.alphabet": "zeta"})
    assert caplog.messages == [
        "Characters that are new to the warm start's model: 'b' 'x'. Its characters that are left out: 'e' 'z'."
    ]
    caplog.clear()
    for before in (None, {}, {"data.alphabet": 3}):
        assert texts("batx").adapt_weights("characters/kernel", source, fresh, before) is None
    assert len(caplog.messages) == 3
    assert caplog.messages[0].startswith("The warm start's model has no record of its alphabet.")


def test_kept_alphabets_ignore_other_characters(caplog: pytest.LogCaptureFixture) -> None:
    """With a kept alphabet, other characters of training texts are listed, and no processor refuses them."""
    for mode, refuses in (("keep", False), ("extend", True)):
        caplog.clear()
        scenario = texts("a", alphabet_mode=mode)
        scenario.train_data()
        assert any("10 of 10 training lines" in message for message in caplog.messages) != refuses
        names = [type(each).__name__ for each in scenario.processors()]
        assert ("RefuseUnknown" in names) == refuses
    made = Sample(inputs=np.zeros((20, 200), np.uint8), targets="ax")
    for processor in texts("a", alphabet_mode="keep", augment=False).processors():
        made = processor.process(made)
    np.testing.assert_array_equal(made.targets["text"], [1, 2])


def test_known_classes_keep_their_weights() -> None:
    """Image classes are found by their names, also if the number of classes is the same."""
    scenario = ImageClassification(ImageParams(data=ImageData(classes=("cow", "cat"))))
    source, fresh = np.arange(6.0).reshape(3, 2), np.full((3, 2), -1.0)
    before = {"data.classes": ["cat", "dog"]}
    np.testing.assert_array_equal(
        scenario.adapt_weights("classes/kernel", source, fresh, before), [[-1, 0], [-1, 2], [-1, 4]]
    )
    np.testing.assert_array_equal(scenario.adapt_weights("classes/bias", source[0], fresh[0], before), [-1, 0])
    for other in (None, {}, {"data.classes": "cd"}, {"data.classes": ["cat"]}):
        assert scenario.adapt_weights("classes/bias", source[0], fresh[0], other) is None
    assert scenario.adapt_weights("conv_1/kernel", source, fresh, before) is None


SMALL = {
    "data.printed_lines": 16, "train.batch_size": 8, "trainer.jit_compile": "off", "trainer.tune": "off",
    "trainer.random_seed": 3, "trainer.epochs": 1, "model.filters": [4], "model.units": 8,
    "trainer.export_best": False, "trainer.export_final": False, "trainer.skip_sanity_check": True,
}  # fmt: skip


@pytest.mark.slow
def test_a_model_reads_more_characters(tmp_path: Path) -> None:
    """A run from a model of fewer characters equals its source in all known ones, and resumes bit by bit."""
    few = "".join(TEXTS[::2])
    lines = {"data.alphabet": few, "data.alphabet_mode": "keep"}
    aip.train(TextLineRecognition, {**SMALL, **lines}, tmp_path / "few", quiet=True)
    start = {**SMALL, "warmstart.model": tmp_path / "few"}
    kept = aip.Trainer.from_scenario(TextLineRecognition, start, quiet=True)
    source = aip.Trainer.from_scenario(TextLineRecognition, {**start, **lines}, quiet=True)
    for one, other in zip(source.model.variables, kept.model.variables, strict=True):
        assert one.path == other.path
        if "seed" not in one.path:
            np.testing.assert_array_equal(one.numpy(), other.numpy()[..., : one.shape[-1]], err_msg=one.path)
    assert {row.status for row in source.engine.warm_start.rows} == {"loaded"}
    here = kept.params.data.alphabet
    assert here[: len(few)] == few
    assert set(here) == set(TEXTS) | set(alphabet_of(PrintedLines(16, 1).texts()))
    rows = {row.path: row for row in kept.engine.warm_start.rows if row.status == "adapted"}
    assert rows.keys() == {"characters/kernel", "characters/bias"}
    assert rows["characters/kernel"].adapted == (len(few) + 1, len(here) + 1)
    whole = aip.train(TextLineRecognition, {**start, "trainer.epochs": 2}, tmp_path / "whole", quiet=True)
    aip.train(TextLineRecognition, start, tmp_path / "part", quiet=True)
    resumed = aip.resume(tmp_path / "part", {"trainer.epochs": 2}, quiet=True, scenario=TextLineRecognition)
    for one, other in zip(whole.model.variables, resumed.model.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


@pytest.mark.slow
def test_folds_read_more_characters(tmp_path: Path) -> None:
    """All folds have the same extended alphabet, which is that of the whole training data."""
    lines = {"data.alphabet": "etaoin", "data.alphabet_mode": "keep"}
    aip.train(TextLineRecognition, {**SMALL, **lines}, tmp_path / "few", quiet=True)
    start = {**SMALL, "warmstart.model": tmp_path / "few", "trainer.folds": 2}
    aip.train(TextLineRecognition, start, tmp_path / "folds", quiet=True)
    found = {
        json.loads((tmp_path / "folds" / f"fold-{fold}" / "params.json").read_text())["data"]["alphabet"]
        for fold in (1, 2)
    }
    texts = alphabet_of(PrintedLines(16, 1).texts())
    assert found == {"etaoin" + "".join(each for each in texts if each not in "etaoin")}
