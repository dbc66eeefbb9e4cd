"""Normalization and direction of texts."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
from aip_plugin_ocr.params import OCRData, OCRParams
from aip_plugin_ocr.scenario import OCR
from aip_plugin_ocr.text.direction import reordered
from aip_plugin_ocr.text.processors import LogicalOrder, PrepareText, TextPreparation
from aip_plugin_ocr.text.rules import TextRules, read_rules

from aipcore.errors import UsageError
from aipcore.scenario import Sample


def rules(tmp_path, content):
    """Return the rules of a file with this content."""
    (tmp_path / "rules.yaml").write_text(content, encoding="utf-8")
    return read_rules(tmp_path / "rules.yaml")


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_unicode_forms(tmp_path, form):
    """Texts get the form of Python's unicodedata, also where a replacement joins characters."""
    text = "e\u0301 \ufb01 \u212b x"
    apply = rules(tmp_path, f"form: {form}\nreplace:\n  x: '\u0301'\n  'y': z\n")
    assert apply(text) == unicodedata.normalize(form, text.replace("x", "\u0301"))
    assert rules(tmp_path, "form: none")(text) == text


def test_replacements(tmp_path):
    """The longest fitting text is replaced, and results are not replaced again."""
    apply = rules(
        tmp_path, "replace:\n  '\u201e': '\"'\n  ',,': '\"'\n  ',': ';'\n  ';': ','\n  '(c)': '.'\n  gone: ''\n"
    )
    assert apply("\u201ea,, b, c; (c)gone") == '"a" b; c, .'


def test_white_space(tmp_path):
    """Runs of white space become a blank."""
    assert rules(tmp_path, "white_space: true")("\t a\u00a0\u2003b \n") == "a b"
    assert rules(tmp_path, "form: NFC")(" a  b ") == " a  b "


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("form: NFX", "form 'NFX' is not allowed. Write NFC, NFD, NFKC, NFKD or none"),
        ("forms: NFC", "'forms' is not a rule. The rules are form, replace, white_space"),
        ("replace: [a, b]", "replace is not a mapping"),
        ("replace: {1: one}", "the replacement 1: 'one' is not text to text"),
        ("replace: {'': one}", "the replacement '': 'one' is not text to text"),
        ("white_space: 1", "white_space 1 is not allowed"),
        ("a:\n  - b\n c", "is not YAML in UTF-8 .line 3"),
        ("", "has no rules"),
        ("- a", "has no rules"),
    ],
)
def test_wrong_rules(tmp_path, content, message):
    """A rule that is not valid is an error before anything is computed."""
    with pytest.raises(UsageError, match=rf"--data.text_rules .*rules\.yaml.*{message}"):
        rules(tmp_path, content)


def test_missing_rules(tmp_path):
    """A file that cannot be read is an error."""
    with pytest.raises(UsageError, match="cannot be read"):
        read_rules(tmp_path / "none.yaml")


HEBREW, ARABIC = "\u05d0\u05d1\u05d2", "\u0633\u0644\u0627\u0645"


@pytest.mark.parametrize(
    ("logical", "direction", "visual"),
    [
        # Rules of UAX #9: right-to-left letters are reversed (L2), numbers are not, and brackets are mirrored (L4).
        (HEBREW, "rtl", HEBREW[::-1]),
        (f"{HEBREW} 123", "rtl", f"123 {HEBREW[::-1]}"),
        (f"{HEBREW} ({ARABIC}).", "rtl", f".({ARABIC[::-1]}) {HEBREW[::-1]}"),
        (f"abc {HEBREW} def", "ltr", f"abc {HEBREW[::-1]} def"),
        (f"{HEBREW} abc {ARABIC}", "rtl", f"{ARABIC[::-1]} abc {HEBREW[::-1]}"),
        (f"a {HEBREW}", "auto", f"{HEBREW[::-1]} a"),
        (f"abcd {HEBREW}!", "auto", f"abcd {HEBREW[::-1]}!"),
        (f"{HEBREW} 1", "none", f"{HEBREW} 1"),
        ("", "rtl", ""),
        ("abc 12", "auto", "abc 12"),
    ],
)
def test_visual_and_logical_order(logical, direction, visual):
    """Texts are put in visual order for training, and back in logical order after prediction."""
    assert reordered(logical, direction) == visual
    assert reordered(visual, direction) == logical


@pytest.mark.parametrize("direction", ["rtl", "auto"])
def test_lines_of_one_direction_are_restored(direction):
    """Hebrew and Arabic lines with numbers and punctuation between the words are restored exactly."""
    generator = random.Random(1)
    letters = [chr(code) for code in (*range(0x5D0, 0x5EB), *range(0x627, 0x63B))]
    for _ in range(300):
        words = ["".join(generator.choices(letters, k=4)) for _ in range(generator.randint(1, 6))]
        for place in range(1, len(words), 2):
            words[place] += generator.choice([",", ".", ":", "!", " 12", " 3.5", " -"])
        text = " ".join(words)
        assert reordered(reordered(text, direction), direction) == text


@pytest.mark.parametrize("direction", ["rtl", "ltr"])
def test_restored_lines_look_the_same(direction):
    """Mixed texts are restored to a text with the same visual order."""
    generator = random.Random(2)
    for _ in range(300):
        text = "".join(generator.choices("\u05d0\u05d1\u05d2\u05d3abc123 .,()-", k=generator.randint(1, 14)))
        visual = reordered(text, direction)
        assert reordered(reordered(visual, direction), direction) == visual


def test_truth_of_mixed_texts():
    """The truth in the meta is what a correct reading becomes, so that a vote of correct readings has no errors."""
    preparation = TextPreparation(TextRules(), "rtl")
    mixed = "\u05d0\u05d1\u05d2 12 abc"
    sample = PrepareText(preparation).process(Sample(inputs=None, targets=mixed, meta={}))
    assert LogicalOrder("rtl").process({"text": sample.targets}, None)["text"] == sample.meta["truth"] != mixed


@pytest.mark.parametrize("direction", ["none", "rtl"])
def test_votes_of_models_with_and_without_a_direction(direction):
    """Texts are aligned as they were read, also if only some of the models put them in logical order."""
    plain = {"text": "1 \u05d2\u05d1\u05d0", "confidence": 0.5, "confidences": np.full(5, 0.5, np.float32)}
    ordered = LogicalOrder("rtl").process(dict(plain), None)
    scenario = OCR(OCRParams(data=OCRData(text_direction=direction)))
    joined = scenario.vote_results([plain, ordered] if direction == "none" else [ordered, plain])
    assert joined["text"] == (plain if direction == "none" else ordered)["text"]
    assert (joined["confidences"] == 0.5).all()
