"""Text line recognition: codec, distances, independence of the batch, files and lists, and learning."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from aip_plugins.scenarios.text_line_recognition.codec import Codec, Reading, alphabet_of, read_codec
from aip_plugins.scenarios.text_line_recognition.metrics import CharacterErrorRate, ReadingEvaluator, edit_distance
from aip_plugins.scenarios.text_line_recognition.params import TextLineData, TextLineParams
from aip_plugins.scenarios.text_line_recognition.printing import PrintedLines
from aip_plugins.scenarios.text_line_recognition.processors import Decode, Distort, Encode, Normalize, RefuseUnknown
from aip_plugins.scenarios.text_line_recognition.voting import _align, vote_texts

from aipcore.errors import DataError, UsageError
from aipcore.scenario import Mode, Sample


def write_lines(folder: Path, count: int, seed: int) -> Path:
    """Write printed lines as files, and a list of them."""
    from PIL import Image

    folder.mkdir(parents=True)
    source = PrintedLines(count, seed)
    for index in range(count):
        sample = source[index]
        Image.fromarray(sample.inputs).save(folder / f"{index}.png")
        (folder / f"{index}.gt.txt").write_text(sample.targets + "\n", encoding="utf-8")
    listed = folder.with_suffix(".lst")
    listed.write_text("".join(f"{folder.name}/{index}.png\n" for index in range(count)))
    return listed


def test_codec() -> None:
    """Encoding is reversible; unknown characters share one number and one sign, which the model lacks."""
    codec = Codec(alphabet_of(["bach", "Abc"]))
    assert codec.alphabet == "Aabch"
    assert codec.encode("ach") == [2, 4, 5]
    assert codec.decode([0, 2, 0, 4, 5]) == "ach"
    assert codec.encode("axe") == [2, 6, 6]
    assert codec.decode([2, 6, 6]) == "a\ufffd\ufffd"
    assert Codec("a\ufffd").decode(Codec("a\ufffd").encode("ax\ufffd")) == "a\ufffc\ufffd"


def test_training_texts_have_known_characters(refused: Any) -> None:
    """Training texts that no model could learn are refused by name."""
    processor = RefuseUnknown(Codec("ae"))
    with refused(DataError):
        processor.process(Sample(inputs=None, targets="axe"))
    assert processor.process(Sample(inputs=None, targets="ea")).targets == "ea"
    assert processor.modes == {Mode.TRAINING}


@pytest.mark.parametrize(
    ("image", "texts", "read"),
    [
        ("010001.bin.png", ["010001"], "010001"),
        ("010001.bin.png", ["010001", "010001.bin"], "010001.bin"),
        ("p.1.nrm.bin.png", ["p.1", "p"], "p.1"),
        ("page.png", ["page"], "page"),
    ],
)
def test_text_beside_an_image(tmp_path: Path, image: str, texts: list[str], read: str) -> None:
    """The text has the name of the image, minus as few extensions as possible; a BOM is not a character."""
    from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition
    from PIL import Image

    Image.new("L", (20, 10)).save(tmp_path / image)
    for name in texts:
        (tmp_path / f"{name}.gt.txt").write_text(f"\ufeff{name}\u2028\r\n", encoding="utf-8")
    scenario = TextLineRecognition(TextLineParams(data=TextLineData(alphabet="a")))
    assert scenario.read(tmp_path / image, targets=True).targets == f"{read}\u2028"
    (tmp_path / f"{read}.gt.txt").write_text("a\na\n")
    with pytest.raises(DataError, match="has several lines"):
        scenario.read(tmp_path / image, targets=True)


def test_texts_that_are_none(tmp_path: Path, refused: Any) -> None:
    """Pipes are refused without waiting, and endless files are not read to the end."""
    from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition
    from PIL import Image

    scenario = TextLineRecognition(TextLineParams(data=TextLineData(alphabet="a")))
    for name in ("pipe", "long"):
        Image.new("L", (20, 10)).save(tmp_path / f"{name}.png")
    os.mkfifo(tmp_path / "pipe.gt.txt")
    (tmp_path / "long.gt.txt").write_text("a" * 200_000)
    for name in ("pipe", "long"):
        with refused(DataError):
            scenario.read(tmp_path / f"{name}.png", targets=True)


def test_reading_a_path() -> None:
    """Repeated numbers are one character unless a blank separates them. Each has its greatest probability.

    The confidence is the geometric mean, independent of the padding.
    """
    probabilities = np.full((6, 3), 0.1)
    for step, (best, share) in enumerate([(1, 0.5), (1, 0.8), (0, 0.7), (1, 0.6), (2, 0.9), (2, 0.9)]):
        probabilities[step] = (1 - share) / 2
        probabilities[step, best] = share
    padding = np.log([[1, 1e-300, 1e-300]] * 3)
    for logits in (np.log(probabilities), np.concatenate([np.log(probabilities), padding])):
        found = Decode(Codec("ab")).process({"text": logits}, None)
        assert found["text"] == "aab"
        np.testing.assert_allclose(found["confidences"], [0.8, 0.6, 0.9], rtol=1e-6)
        assert found["confidence"] == pytest.approx((0.8 * 0.6 * 0.9) ** (1 / 3))
    assert Codec("ab").read(np.log([[0.9, 0.05, 0.05], [0.7, 0.1, 0.2]])).confidence == pytest.approx(0.7)


@pytest.mark.parametrize(
    "text",
    ["a\nbc\n", "a\nb\na\n", ""],
)
def test_codec_files(tmp_path: Path, text: str, refused: Any) -> None:
    """A codec file has one character per line, each once."""
    (tmp_path / "good.txt").write_text("a\n \nä\n", encoding="utf-8")
    assert read_codec(tmp_path / "good.txt") == "a ä"
    (tmp_path / "bad.txt").write_text(text)
    with refused(UsageError):
        read_codec(tmp_path / "bad.txt")


def test_codec_files_are_bounded(tmp_path: Path, refused: Any) -> None:
    """Pipes without a writer and files that are too large are refused before reading; a BOM is ignored."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_text("")
    os.truncate(tmp_path / "large", 2**32)
    for name in ("pipe", "large"):
        with refused(UsageError):
            read_codec(tmp_path / name)
    (tmp_path / "bom").write_text("\ufeffa\r\nb\r\n", encoding="utf-8", newline="")
    assert read_codec(tmp_path / "bom") == "ab"


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("abc", "abc", 0), ("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_edit_distance(one: str, other: str, distance: int) -> None:
    """Known distances are the same in both directions."""
    assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_error_rates_by_definition() -> None:
    """On random logits, the metric and the evaluator have the distances of the read texts to the true ones."""
    random = np.random.default_rng(3)
    logits = random.normal(size=(20, 15, 5)).astype(np.float32)
    texts = np.zeros((20, 6), np.int32)
    for row, length in zip(texts, random.integers(1, 7, 20), strict=True):
        row[:length] = random.integers(1, 5, length)
    codec = Codec("abcd")
    metric, evaluator = CharacterErrorRate(), ReadingEvaluator(codec)
    for part in (slice(0, 7), slice(7, 20)):
        metric.update_state(texts[part], logits[part])
        evaluator.update({"text": texts[part]}, {"text": logits[part]}, None)
    pairs = [(codec.decode(row.tolist()), codec.read(each).text) for row, each in zip(texts, logits, strict=True)]
    distances = [edit_distance(read, truth) for truth, read in pairs]
    rate = sum(distances) / sum(len(truth) for truth, _ in pairs)
    assert float(metric.result()) == pytest.approx(rate)
    wrong = sum(distance > 0 for distance in distances) / 20
    assert evaluator.result() == {"character_error_rate": pytest.approx(rate), "line_error_rate": wrong}
    worst = max(zip(distances, pairs, strict=True), key=lambda line: line[0])[1]
    assert evaluator.report().startswith(f"Worst lines: {worst[0]!r} read as {worst[1]!r}")


def test_loss_of_unknown_characters() -> None:
    """The loss of a text is that of its known characters; the error rate counts the unknown ones."""
    import keras
    from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition

    codec = Codec("abc")
    scenario = TextLineRecognition(TextLineParams(data=TextLineData(alphabet="abc")))
    texts = ["axbyc", "xxxxx", "abcab", "aaxa"]
    rows = np.zeros((4, 5), np.int32)
    known = np.zeros((4, 5), np.int32)
    for row, text in enumerate(texts):
        rows[row, : len(text)] = codec.encode(text)
        plain = codec.encode("".join(character for character in text if character in "abc"))
        known[row, : len(plain)] = plain
    logits = np.random.default_rng(1).normal(size=(4, 12, 4)).astype(np.float32)
    found = scenario.loss_values({}, {"text": keras.ops.array(rows)}, {"text": keras.ops.array(logits)})["ctc"]
    expected = keras.ops.ctc_loss(
        keras.ops.array(known), keras.ops.array(logits), keras.ops.array([3, 0, 5, 3]), keras.ops.array([12] * 4),
        mask_index=0,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # The most probable path has only the known characters.
    path = np.full((1, 12, 4), -9.0, np.float32)
    for step, number in enumerate([1, 1, 0, 2, 0, 0, 3, 0, 0, 0, 0, 0]):
        path[0, step, number] = 9.0
    metric, evaluator = CharacterErrorRate(), ReadingEvaluator(codec)
    metric.update_state(rows[:1], path)
    evaluator.update({"text": rows[:1]}, {"text": path}, None)
    assert float(metric.result()) == pytest.approx(2 / 5)
    assert evaluator.result()["character_error_rate"] == 2 / 5
    assert "'a\ufffdb\ufffdc' read as 'abc'" in evaluator.report()


def test_too_narrow_images_are_named(refused: Any) -> None:
    """CTC needs a step per character and one between two equal ones; the error gives the required pixels."""
    sample = Sample(inputs={"image": np.zeros((16, 32, 1), np.float32)}, targets="aabc")
    with refused(DataError):
        Encode(Codec("abc"), 4).process(sample)
    Encode(Codec("abc"), 4).process(Sample(inputs={"image": np.zeros((17, 32, 1), np.float32)}, targets="aabc"))


def test_distorted_lines_fit_their_texts() -> None:
    """A line that is just wide enough does not become too narrow in some epoch; others are stretched as before."""
    narrow = Sample(inputs=np.full((32, 17), 255, np.uint8), targets="aabc")
    wide = attrs.evolve(narrow, inputs=np.full((32, 40), 255, np.uint8))
    found = [[Distort(4).process(each, np.random.default_rng(i)) for i in range(20)] for each in (narrow, wide)]
    for sample in found[0]:
        Encode(Codec("abc"), 4).process(Normalize().process(sample))
    widths = [[each.inputs.shape[1] for each in samples] for samples in found]
    assert min(widths[0]) == 17 < max(widths[0])
    assert min(widths[1]) < 40


def test_printed_lines_are_functions_of_the_index() -> None:
    """A line is the same in any order of access, and another seed gives other lines."""
    first = PrintedLines(10, 1)
    again = PrintedLines(10, 1)
    np.testing.assert_array_equal(first[7].inputs, again[7].inputs)
    assert first.texts()[7] == first[7].targets
    assert PrintedLines(10, 2).texts() != first.texts()


def test_a_line_is_read_alike_in_any_batch(make_trainer: Callable[..., Any]) -> None:
    """The logits of short lines alone and beside a long one are equal, and blank after their ends."""
    from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition

    trainer = make_trainer(TextLineRecognition, "--data.printed_lines", "20", "--data.alphabet", ALPHABET)
    images, widths = np.random.default_rng(0).random((5, 90, 32, 1), np.float32), np.array([37, 38, 39, 40, 90])
    images[np.arange(90) >= widths[:, None]] = 0

    def logits(images: Any, widths: Any) -> Any:
        given = {"image": images, "width": widths[:, None].astype(np.int32)}
        return trainer.engine.graph(given, training=False)["text"].numpy()

    together = logits(images, widths)
    for row, width in enumerate(widths):
        alone = logits(images[row : row + 1, :width], widths[row : row + 1])[0]
        assert len(alone) == -(-width // 4)
        np.testing.assert_allclose(together[row, : len(alone)], alone, rtol=1e-5, atol=1e-5)
        assert (together[row, len(alone) :].argmax(-1) == 0).all()


ALPHABET = alphabet_of(PrintedLines(300, 1).texts() + PrintedLines(100, 1_000_001).texts())


@pytest.mark.slow
def test_trains_on_lists(fork_aip: Callable[..., Any], tmp_path: Path) -> None:
    """The alphabet of the texts beside the images is recorded; other texts in validation do not end a run."""
    train, val = write_lines(tmp_path / "train", 24, 1), write_lines(tmp_path / "val", 6, 1)
    (tmp_path / "val" / "2.gt.txt").write_text("\u00fc\u00dfa", encoding="utf-8")
    done = fork_aip(
        "train", "text_line_recognition", "--train.lists", str(train), "--val.lists", str(val), "--trainer.epochs", "1",
        "--trainer.output_dir", str(tmp_path / "out"), "--train.batch_size", "8", "--trainer.jit_compile", "off",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "24 training samples in 3 batches of 8; 6 validation samples" in done.stdout
    note = "1 of 6 validation lines have characters that are not in the alphabet: '\u00df' '\u00fc'."
    assert note in done.stdout
    recorded = json.loads((tmp_path / "out" / "params.json").read_text())
    assert recorded["data"]["alphabet"] == alphabet_of(PrintedLines(24, 1).texts())


def test_missing_texts_are_named(fork_aip: Callable[..., Any], tmp_path: Path) -> None:
    """Missing texts are named before anything is computed or written."""
    train = write_lines(tmp_path / "train", 3, 1)
    (tmp_path / "train" / "1.gt.txt").unlink()
    done = fork_aip(
        "train", "text_line_recognition", "--train.lists", str(train), "--trainer.output_dir", str(tmp_path / "out")
    )
    assert done.returncode != 0
    assert "1.gt.txt of the image 1.png cannot be read" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_learns_to_read(fork_aip: Callable[..., Any], tmp_path: Path) -> None:
    """At most 5 of 100 characters of held-out lines are wrong in one of the epochs of the default run."""
    done = fork_aip(
        "train", "text_line_recognition", "--trainer.output_dir", str(tmp_path / "out"), "--json-log", "log.jsonl",
        "--trainer.random_seed", "1", "--early_stopping.lower_threshold", "0.05", "--trainer.export_best", "False",
        "--trainer.export_final", "False", timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert summary["monitor"] == "val_character_error_rate"
    assert summary["best"] <= 0.05


def reading(text: str, *confidences: float) -> Reading:
    """Return a reading; a single confidence is that of the line and each character."""
    each = confidences * len(text) if len(confidences) == 1 else confidences
    return Reading(text, float(np.exp(np.log(confidences).mean())), np.array(each, np.float32))


@pytest.mark.parametrize(
    ("readings", "joint"),
    [
        ([reading("cat", 0.9), reading("cat", 0.5)], "cat"),
        ([reading("cat", 0.9), reading("bat", 0.5)], "cat"),
        ([reading("cat", 0.4), reading("bat", 0.9)], "bat"),
        ([reading("cat", 0.9), reading("bat", 0.5), reading("rat", 0.3), reading("bat", 0.5)], "bat"),
        ([reading("hallo", 0.9), reading("halo", 0.9), reading("hallo", 0.9)], "hallo"),
        ([reading("halo", 0.9), reading("halo", 0.9), reading("hallo", 0.9)], "halo"),
        ([reading("a quick fix", 0.9), reading("aquick fax", 0.7), reading("a quickfix", 0.8)], "a quick fix"),
        ([reading("", 0.9), reading("", 0.8), reading("i", 0.9)], ""),
        ([reading("", 0.2), reading("i", 0.9)], "i"),
    ],
)
def test_vote_of_aligned_texts(readings: list[Reading], joint: str) -> None:
    """The sums of confidences decide for each aligned character, in any order of the models."""
    for given in (readings, readings[::-1]):
        found = vote_texts(given)
        assert found.text == joint
        assert len(found.confidences) == len(joint)
        assert 0 < found.confidence < 1


def test_confidences_of_a_vote() -> None:
    """A character has the sum of the confidences of the models that have it, divided by the number of models."""
    found = vote_texts([reading("abd", 0.8, 0.6, 0.5), reading("acd", 0.8, 0.5, 0.3), reading("xbd", 0.3, 0.6, 0.7)])
    assert found.text == "abd"
    np.testing.assert_allclose(found.confidences, [1.6 / 3, 1.2 / 3, 1.5 / 3], rtol=1e-6)
    assert found.confidence == pytest.approx((1.6 * 1.2 * 1.5) ** (1 / 3) / 3)


def test_alignment_has_the_fewest_differences() -> None:
    """Two random texts have as many differing columns as their edit distance."""
    random = np.random.default_rng(5)
    for _ in range(100):
        one, other = ("".join(random.choice(list("abc"), size)) for size in random.integers(0, 9, 2))
        columns = [{"": [], character: [1.0]} for character in one]
        pairs = _align(columns, other, 1)
        assert [column for column, _ in pairs if column is not None] == columns
        assert [position for _, position in pairs if position is not None] == [*range(len(other))]
        same = sum(c is not None and p is not None and other[p] in c for c, p in pairs)
        assert len(pairs) - same == edit_distance(one, other)


def test_joint_results_are_scored_with_all_characters() -> None:
    """The truth in the meta has characters that the first model does not know; without meta, it is the target."""
    encoded = Encode(Codec("ab"), 1).process(Sample(inputs=None, targets="abc", meta={"path": "x"}))
    assert encoded.meta == {"path": "x", "truth": "abc"}
    targets = {"text": encoded.targets["text"][None]}
    for meta, errors in (([encoded.meta], 0), (None, 1)):
        evaluator = ReadingEvaluator(Codec("ab"))
        evaluator.update_results(targets, [{"text": "abc"}], meta)
        assert evaluator.errors == errors


@pytest.mark.slow
def test_models_of_other_alphabets_and_heights_vote(fork_aip: Callable[..., Any], tmp_path: Path) -> None:
    """Models of different alphabets, heights and sizes vote in `aip predict` and `aip lav`, and dumps are scored."""
    lines = write_lines(tmp_path / "lines", 12, 1)
    for name, words in (
        ("one", ["--data.height", "32"]),
        ("two", ["--data.height", "24", "--model.filters", "8", "--data.alphabet", ALPHABET + "\u00df"]),
    ):
        done = fork_aip(
            "train", "text_line_recognition", "--train.lists", str(lines), "--val.lists", str(lines), *words,
            "--trainer.epochs", "1", "--trainer.output_dir", str(tmp_path / name), "--trainer.jit_compile", "off",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    models = [str(tmp_path / "one"), str(tmp_path / "two")]
    done = fork_aip("predict", *models, "--output", "found.jsonl")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["outputs"] for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [set(each) for each in found] == [{"text", "confidence", "confidences"}] * 12
    scores = []
    for words in (["lav", *models, "--dump", "dump.npz"], ["evaluate", "dump.npz"]):
        done = fork_aip(*words, "--json", "scores.json")
        assert done.returncode == 0, done.stderr
        scores.append(json.loads((tmp_path / "scores.json").read_text())["lists"][0])
    assert scores[0]["values"] == scores[1]["values"]
    assert set(scores[0]["models"]) == {str(tmp_path / name / "best") for name in ("one", "two")}
    errors = sum(
        edit_distance(each["text"], text) for each, text in zip(found, PrintedLines(12, 1).texts(), strict=True)
    )
    characters = sum(map(len, PrintedLines(12, 1).texts()))
    assert scores[0]["values"]["character_error_rate"] == pytest.approx(errors / characters)
