"""Reports: the alignment against its definition, rates and tables of known lines, and the page."""

from __future__ import annotations

import base64
import io
from functools import cache
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aip_plugin_ocr.reports.alignment import align, count_errors
from aip_plugin_ocr.reports.command import _line, find_image
from aip_plugin_ocr.reports.command import command as report
from aip_plugin_ocr.reports.page import HEIGHT, Line, make_page, marked
from aip_plugin_ocr.reports.statistics import ReadingStatistics, alphabet_text, count_characters, visible
from click.testing import CliRunner
from PIL import Image

from aipcore.errors import DataError, UsageError
from aipcore.scenario import Sample


@cache
def distance(one: str, other: str) -> int:
    """Return the edit distance by its recursive definition."""
    if not one or not other:
        return len(one) + len(other)
    edits = distance(one[1:], other), distance(one, other[1:]), distance(one[1:], other[1:])
    return min(edits[0] + 1, edits[1] + 1, edits[2] + (one[0] != other[0]))


def test_alignment_has_the_fewest_edits() -> None:
    """Alignments of random texts spell both texts, with as many edits as their distance."""
    generator = np.random.default_rng(1)
    for _ in range(200):
        truth, read = ("".join(generator.choice([*"abc"], generator.integers(0, 9))) for _ in range(2))
        pairs = align(truth, read)
        assert ("".join(one for one, _ in pairs), "".join(other for _, other in pairs)) == (truth, read)
        assert ("", "") not in pairs
        assert count_errors(pairs) == distance(truth, read)


@pytest.mark.parametrize(
    ("truth", "read", "edits"),
    [
        ("house", "hause", [("o", "a")]),
        ("house", "huse", [("o", "")]),
        ("huse", "house", [("", "o")]),
        ("rn", "m", [("r", ""), ("n", "m")]),
        ("", "ab", [("", "a"), ("", "b")]),
        ("same", "same", []),
    ],
)
def test_known_alignments(truth: str, read: str, edits: list[tuple[str, str]]) -> None:
    """A replacement, a deletion and an insertion are found where they are."""
    assert [pair for pair in align(truth, read) if pair[0] != pair[1]] == edits


def test_statistics() -> None:
    """Counts and rates of known lines, in total and by length; the tables name them."""
    statistics = ReadingStatistics()
    lines = [("abc", "abc"), ("abcd", "axcd"), ("bcd e", "xcde"), ("a" * 25, "a" * 24), ("", "z")]
    assert [statistics.add(*line) for line in lines] == [0, 1, 2, 1, 1]
    total = statistics.total
    assert (total.lines, total.wrong_lines, total.characters, total.errors) == (5, 4, 37, 5)
    assert (total.of_characters, total.of_lines) == (5 / 37, 4 / 5)
    rows = {name: (rate.lines, rate.errors, rate.characters) for name, rate in statistics.length_rows()}
    assert rows == {"0 to 10": (4, 4, 12), "21 to 40": (1, 1, 25)}
    assert statistics.confusion_rows()[0] == ("b", "x", 2)
    assert set(statistics.confusion_rows()[1:]) == {("nothing", "z", 1), ("\u2423", "nothing", 1), ("a", "nothing", 1)}
    text = statistics.text()
    assert "\nb        x        2\n" in text
    assert "\n21 to 40    1      4.00%             100.00%" in text
    assert ReadingStatistics().text() == ""


def test_ranges_of_lengths() -> None:
    """Each length is in the range that names it."""
    statistics = ReadingStatistics()
    for length in (0, 10, 11, 20, 21, 40, 41, 80, 81, 500):
        statistics.add("a" * length, "")
    assert [(name, rate.lines, rate.characters) for name, rate in statistics.length_rows()] == [
        ("0 to 10", 2, 10), ("11 to 20", 2, 31), ("21 to 40", 2, 61), ("41 to 80", 2, 121), ("81 or more", 2, 581)
    ]  # fmt: skip


def test_characters() -> None:
    """Rare characters and those without training texts are listed, the rarest first."""
    counts = count_characters(["a" * 12 + "b", "b c"], ["abß"])
    assert [(each.character, each.trained, each.evaluated) for each in counts] == [
        ("ß", 0, 1), (" ", 1, 0), ("c", 1, 0), ("b", 2, 1), ("a", 12, 1)
    ]  # fmt: skip
    text = alphabet_text(counts)
    assert "16 characters, 4 different ones" in text
    assert "Fewer than 10 times: \u2423 (1) c (1) b (2)." in text
    assert "Only in the evaluated texts: ß (1)." in text


def test_visible_characters() -> None:
    """Characters that a reader cannot see have a name."""
    assert [visible(each) for each in ("a", "", " ", "\u00ad", "\u0301", "\t", "\ufffd", "א")] == [
        "a", "nothing", "\u2423", "U+00AD", "U+0301", "U+0009", "\ufffd", "א"
    ]  # fmt: skip


def test_marks() -> None:
    """Differences are marked in both texts, and all characters are escaped."""
    assert marked("a<b", "a&bc") == ("a<mark>&lt;</mark>b", "a<mark>&amp;</mark>b<ins>c</ins>")
    assert marked("a b", "ab") == ("a<del>\u2423</del>b", "ab")


class Reader(HTMLParser):
    """Reads a page, and checks that its elements are nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def lines(image: Any) -> list[Line]:
    """Return a line with an image and a name to escape, and one without an image."""
    texts = [("<script>a</script>", "<script>b</script>"), ("x", "")]
    pictures = [image, None]
    return [
        Line(truth=truth, read=read, errors=1, confidence=0.5, name="<b>.png", image=lambda made=made: made)
        for (truth, read), made in zip(texts, pictures, strict=True)
    ]


def test_page() -> None:
    """The page is well-formed, refers to no other file, and contains images, escaped texts and tables."""
    image = np.random.default_rng(0).integers(0, 256, (2 * HEIGHT, 300)).astype(np.uint8)
    shown, statistics = lines(image), ReadingStatistics()
    for line in shown:
        statistics.add(line.truth, line.read)
    page = make_page("runs/<a>", shown, statistics, count_characters(["ab"], ["aß"]), ["A note & more."])
    reader = Reader(page)
    tags = [tag for tag, _ in reader.found]
    assert not {"script", "link", "b", "iframe", "object"} & set(tags)
    assert "http" not in page
    assert "url(" not in page
    (source,) = [values["src"] for tag, values in reader.found if tag == "img"]
    head, _, data = source.partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (150, HEIGHT)
    for text in ("runs/<a>", "<script>a</script>", "<b>.png", "A note & more.", "The image cannot be read.", "U+00DF"):
        assert text in reader.text
    assert "prefers-color-scheme: dark" in page
    assert (tags.count("mark"), tags.count("del"), tags.count("ins")) == (1 + 2, 1 + 1, 1)


def test_images_of_lines() -> None:
    """The image is that of the sample with the same meta, or of the path in the meta."""

    class Scenario:
        def source(self, paths: Any, *, targets: bool) -> list[Sample]:
            if paths[0].name == "lost.png":
                raise DataError("The file is lost.")
            return [Sample(inputs=f"read {path}", meta={"path": str(path)}) for path in paths]

    data = [Sample(inputs="first", meta={"path": "a.png"}), Sample(inputs="second", meta={"path": "b.png"})]
    scenario = Scenario()
    assert find_image(scenario, data, 1, {"path": "b.png", "text": "b"}) == "second"
    assert find_image(scenario, data, 0, {"path": "b.png"}) == "read b.png"
    assert find_image(scenario, data, 7, {"path": "b.png"}) == "read b.png"
    assert find_image(scenario, None, 0, {"path": "lost.png"}) is None
    assert find_image(scenario, None, 0, {}) is None


def test_truth_of_a_vote() -> None:
    """The truth has the characters that the first model lacks, since other models of a vote may know them."""
    prediction = SimpleNamespace(
        index=0, targets={"text": "?"}, outputs={"text": "aß", "confidence": 0.5}, meta={"path": "a.png", "truth": "aß"}
    )
    scenario = SimpleNamespace(describe=lambda targets, outputs: ("a\ufffd", outputs["text"]))
    statistics = ReadingStatistics()
    line = _line(scenario, None, statistics, prediction)  # type: ignore[arg-type]
    assert (line.truth, line.errors, statistics.total.errors) == ("aß", 0, 0)


def test_evaluator() -> None:
    """The evaluator of `aip lav` has the numbers of its base, and reports tables."""
    from aip_plugin_ocr.reports.evaluator import ReportingEvaluator
    from aip_plugins.scenarios.text_line_recognition.codec import Codec

    evaluator = ReportingEvaluator(Codec("ab"))
    # Each step has one certain class; 0 is the blank.
    steps = np.array([[1, 0, 2, 2], [2, 0, 2, 0]])
    logits = 100.0 * (steps[:, :, None] == np.arange(3))
    evaluator.update({"text": np.array([[1, 2, 0], [1, 2, 0]])}, {"text": logits}, None)
    assert evaluator.result() == {"character_error_rate": 1 / 4, "line_error_rate": 1 / 2}
    assert "Worst lines: 'ab' read as 'bb'." in evaluator.report()
    assert "a      b        1" in evaluator.report()


@pytest.mark.parametrize(
    "words",
    [
        ["runs/a", "--output", "report.txt"],
        ["runs/a", "--output", "missing/report.html"],
        ["a.npz", "runs/a"],
        ["a.npz", "--lists", "lines"],
    ],
)
def test_options_that_are_refused(words: list[str]) -> None:
    """Unusable options are refused before anything is computed."""
    result = CliRunner().invoke(report, words)
    assert isinstance(result.exception, UsageError)
