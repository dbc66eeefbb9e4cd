"""Decoding: the beam search against all paths and TensorFlow, language models, and the choice when predicting."""

import json
from collections import Counter
from functools import reduce
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aip_plugin_ocr.decoding.beam_search import BeamReader, aligned_confidences, beam_search
from aip_plugin_ocr.decoding.language import END, CharacterNgrams, WordList, language_files
from aip_plugin_ocr.decoding.params import BeamSearch
from aip_plugins.scenarios.text_line_recognition.codec import Codec
from aip_plugins.scenarios.text_line_recognition.metrics import edit_distance

from aipcore.errors import UsageError


def random_probabilities(seed: int, steps: int, classes: int, sharpness: float = 1.0) -> Any:
    """Return random probabilities of each class at each step."""
    logits = np.random.default_rng(seed).normal(scale=sharpness, size=(steps, classes))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def spelled(path: tuple[int, ...], alphabet: str) -> str:
    """Return the text of a path."""
    return "".join(alphabet[number - 1] for number, _ in groupby(path) if number)


def all_texts(probabilities: Any, alphabet: str) -> Counter[str]:
    """Return the probability of each text as the sum over all paths."""
    texts: Counter[str] = Counter()
    steps = range(len(probabilities))
    for path in product(range(len(alphabet) + 1), repeat=len(probabilities)):
        texts[spelled(path, alphabet)] += float(np.prod(probabilities[steps, path]))
    return texts


@pytest.mark.parametrize("seed", range(5))
def test_beam_search_sums_over_all_paths(seed: int) -> None:
    """With an unlimited width, each text has the probability of all its paths."""
    probabilities = random_probabilities(seed, 6, 3)
    expected = all_texts(probabilities, "ab")
    found = beam_search(probabilities, "ab", width=10_000)
    assert [text for text, _ in found] == [text for text, _ in expected.most_common()]
    np.testing.assert_allclose([np.exp(score) for _, score in found], [p for _, p in expected.most_common()])


@pytest.mark.parametrize("seed", range(3))
def test_language_models_are_added(seed: int) -> None:
    """The score of a text is the logarithm of its probability plus the scores of its characters and its end."""
    probabilities = random_probabilities(seed, 5, 4)
    models = [CharacterNgrams("ab ab\nba", 3, weight=0.7, bonus=0.4), WordList("ab", 1.5)]

    def language(text: str) -> float:
        return sum(model.score(text[:end], (text + END)[end]) for model in models for end in range(len(text) + 1))

    expected = {text: np.log(p) + language(text) for text, p in all_texts(probabilities, "ab ").items()}
    found = beam_search(probabilities, "ab ", width=10_000, language=models)
    assert found[0][0] == max(expected, key=expected.get)
    assert dict(found) == pytest.approx(expected)


def test_beam_search_equals_that_of_tensorflow() -> None:
    """With a great width, the best texts and their probabilities are those of `tf.nn.ctc_beam_search_decoder`."""
    import tensorflow as tf

    alphabet = "abcd"
    for seed in range(5):
        probabilities = random_probabilities(seed, 8, 5, 2.0)
        # TensorFlow's blank is the last class.
        logits = np.log(np.roll(probabilities, -1, axis=1))[:, None].astype(np.float32)
        paths, scores = tf.nn.ctc_beam_search_decoder(logits, [8], beam_width=1000, top_paths=3)
        theirs = ["".join(alphabet[number] for number in path.values.numpy()) for path in paths]
        found = beam_search(probabilities, alphabet, width=1000)[:3]
        assert [text for text, _ in found] == theirs
        np.testing.assert_allclose([score for _, score in found], scores.numpy()[0], rtol=1e-4)


def test_long_lines_do_not_underflow() -> None:
    """The best text of a long line of uncertain steps is found, and improbable characters can be ignored."""
    steps = np.full((4000, 3), 0.2)
    steps[::2, 0] = steps[1::4, 1] = steps[3::4, 2] = 0.6
    for least in (0.0, 0.3, 0.99):
        (text, score), *_ = beam_search(steps, "ab", width=2, least=least)
        assert text == "ab" * 1000
        assert np.isfinite(score)


def test_confidences_of_an_aligned_text() -> None:
    """Each character has its greatest probability on the best of all paths of the text."""
    for seed, text in enumerate(["ab", "aab", "a", "bb", "", "abab"]):
        probabilities = random_probabilities(seed, 7, 3)
        paths = [path for path in product(range(3), repeat=7) if spelled(path, "ab") == text]
        best = max(paths, key=lambda path: float(np.prod(probabilities[range(7), path])))
        starts = reduce(lambda runs, run: [*runs, (run[0], len(list(run[1])))], groupby(best), [])
        expected, step = [], 0
        for number, length in starts:
            if number:
                expected.append(probabilities[step : step + length, number].max())
            step += length
        np.testing.assert_allclose(aligned_confidences(probabilities, Codec("ab").encode(text)), expected)


def test_ngrams() -> None:
    """Probabilities are those of the formula, and their sum over all characters and an unknown one is 1."""
    model = CharacterNgrams("ab\nac\n\n", 2)
    # Single characters, of 6: a twice, b, c, end of line twice; 4 kinds and an unknown one.
    unigram = {"a": (2 + 4 / 5) / 10, "b": (1 + 4 / 5) / 10, "c": (1 + 4 / 5) / 10, END: (2 + 4 / 5) / 10, "x": 0.08}
    assert {character: model.probability("x", character) for character in unigram} == pytest.approx(unigram)
    # After the start of a line, a twice; after a, b and c.
    assert model.probability("", "a") == pytest.approx((2 + unigram["a"]) / 3)
    assert model.probability("a", "b") == pytest.approx((1 + 2 * unigram["b"]) / 4)
    assert model.probability("a", "x") == pytest.approx(2 * unigram["x"] / 4)
    longer = CharacterNgrams("the cat sat on the mat\nthe hat\n", 5)
    for text in ("", "the", "the c", "xyz", "at", "the mat"):
        assert sum(longer.probability(text, each) for each in {*"thecatsonmh ", END, "?"}) == pytest.approx(1)
    assert longer.score("the ", "c") == pytest.approx(np.log(longer.probability("the ", "c")))


@pytest.mark.parametrize(
    ("text", "penalties"),
    [("cat", 0), ("Cat", 0), ("CAT", 0), ("the cat, 12 cats.", 0), ("ca", 1), ("dog", 1), ("dog cat", 1), ("ca ca", 2),
     ("", 0), ("catss-the", 1), ("th\u00e9", 1), ("no\u00ebl", 0)],
)  # fmt: skip
def test_word_list(text: str, penalties: int) -> None:
    """Each word outside the list costs one penalty, also an incomplete one; numbers and marks cost nothing."""
    words = WordList("cat cats\nThe the; no\u00ebl", 2.5)
    assert sum(words.score(text[:end], (text + END)[end]) for end in range(len(text) + 1)) == -2.5 * penalties


def test_files_of_language_models(tmp_path: Path) -> None:
    """Empty files and files that are not text are refused by the name of their option; several texts are joined."""
    one, other, empty, binary = (tmp_path / name for name in ("one", "other", "empty", "binary"))
    one.write_text("\ufeffone", encoding="utf-8")
    other.write_text("other\n")
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe")
    assert language_files(BeamSearch(words=one, texts=(one, other))) == ("one", "one\nother\n")
    with pytest.raises(UsageError, match=r"--data.decoder.words .*empty is empty. Use a file with text."):
        language_files(BeamSearch(words=empty))
    with pytest.raises(UsageError, match=r"--data.decoder.texts .*binary is not UTF-8 text."):
        language_files(BeamSearch(texts=(one, binary)))


def test_reader_with_language_models(tmp_path: Path) -> None:
    """A word list and n-grams correct an uncertain character, whose confidence is that of the corrected one."""
    codec = Codec("acht")
    probabilities = np.full((7, 5), 0.01)
    for step, number in enumerate(codec.encode("chat")):
        probabilities[2 * step, number] = 0.96
        probabilities[min(2 * step + 1, 6), 0] = 0.96
    probabilities[6] = [0.01, 0.5, 0.01, 0.01, 0.47]
    logits = np.log(probabilities).astype(np.float32)
    assert codec.read(logits).text == BeamReader(codec, BeamSearch()).read(logits).text == "chaa"
    (tmp_path / "words.txt").write_text("chat that\n")
    for params in (BeamSearch(words=tmp_path / "words.txt"), BeamSearch(texts=(tmp_path / "words.txt",), order=3)):
        found = BeamReader(codec, params).read(logits)
        assert found.text == "chat"
        np.testing.assert_allclose(found.confidences, [0.96, 0.96, 0.96, 0.47], rtol=1e-5)
        assert found.confidence == pytest.approx((0.96**3 * 0.47) ** 0.25, rel=1e-5)


@pytest.mark.slow
def test_decoder_of_a_trained_model(tmp_path: Path) -> None:
    """A model trained with the best path is applied with beam search and a word list, also in its evaluation."""
    import aipcore
    from aipcore.cli.main import main

    params = {"data.printed_lines": 12, "model.layers": "conv=4,pool=2x2,lstm=4", "trainer.epochs": 1}
    aipcore.train("ocr", {**params, "trainer.jit_compile": "off"}, tmp_path / "out", quiet=True)
    words = tmp_path / "words.txt"
    words.write_text("on\n")
    decoder = {"data.decoder": "beam_search", "data.decoder.words": str(words)}
    predictor = aipcore.Predictor.load(tmp_path / "out", params=decoder)
    codec, texts = predictor.scenario.codec, []
    reader = BeamReader(codec, BeamSearch(words=words))
    for each in predictor.predict_data():
        assert each.outputs["text"] == reader.read(each.raw["text"]).text
        texts.append(each.outputs["text"])
    best = [each.outputs["text"] for each in aipcore.Predictor.load(tmp_path / "out").predict_data()]
    assert len(texts) == len(best)
    options = [word for name, value in decoder.items() for word in (f"--{name}", value)]
    scored = []
    for extra in ([], options):
        assert main(["lav", str(tmp_path / "out"), "--json", str(tmp_path / "scores.json"), *extra]) == 0
        scored.append(json.loads((tmp_path / "scores.json").read_text())["lists"][0]["values"])
    assert scored[0]["loss"] == scored[1]["loss"]
    truth = predictor.scenario.val_data().texts()
    for values, read in zip(scored, (best, texts), strict=True):
        errors = sum(map(edit_distance, read, truth))
        assert values["line_error_rate"] == np.mean([one != other for one, other in zip(read, truth, strict=True)])
        assert values["character_error_rate"] == pytest.approx(errors / sum(map(len, truth)))
