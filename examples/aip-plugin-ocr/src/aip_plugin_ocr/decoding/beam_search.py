"""Prefix beam search over the outputs of CTC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import nlargest
from typing import Any

import numpy as np
from aip_plugins.scenarios.text_line_recognition.codec import Codec, Reading

from aip_plugin_ocr.decoding.language import END, CharacterNgrams, LanguageModel, WordList, language_files
from aip_plugin_ocr.decoding.params import BeamSearch


def beam_search(
    probabilities: Any, alphabet: str, *, width: int, least: float = 0.0, language: Sequence[LanguageModel] = ()
) -> list[tuple[str, float]]:
    """Return the most probable texts with the logarithms of their probabilities, the best first.

    The probability of a text is the sum over all paths that spell it (Graves et al., 2006). Each text is kept with two
    sums: over its paths that end with the blank, and over the others (Hannun et al., 2014). The scores of language
    models are added to the logarithms.

    Args:
        probabilities: probability of each class at each step, [steps, classes]; class 0 is the blank.
        alphabet: the characters of the other classes.
        width: number of texts kept after each step.
        least: a character with a smaller probability at a step is ignored there.
        language: language models.
    """
    scores = {"": 0.0}
    beams = {"": (1.0, 0.0)}
    scale = 0.0
    for step in np.asarray(probabilities, np.float64):
        blank = float(step[0])
        # The most probable class is never ignored.
        numbers = np.flatnonzero(step[1:] >= min(least, step.max()))
        candidates = {alphabet[number]: float(step[number + 1]) for number in numbers}
        grown: dict[str, list[float]] = {}
        for text, (ended, other) in beams.items():
            both, last = ended + other, text[-1:]
            same = grown.setdefault(text, [0.0, 0.0])
            same[0] += both * blank
            same[1] += other * candidates.get(last, 0.0)
            for character, probability in candidates.items():
                longer = text + character
                if longer not in scores:
                    scores[longer] = scores[text] + sum(model.score(text, character) for model in language)
                grown.setdefault(longer, [0.0, 0.0])[1] += (ended if character == last else both) * probability
        possible = [(math.log(sums[0] + sums[1]) + scores[text], text) for text, sums in grown.items() if any(sums)]
        best = nlargest(width, possible)
        # Scaled, since the product of many probabilities would be 0.
        greatest = max((sum(grown[text]) for _, text in best), default=1.0)
        scale += math.log(greatest)
        beams = {text: (grown[text][0] / greatest, grown[text][1] / greatest) for _, text in best}
    ends = {text: scores[text] + sum(model.score(text, END) for model in language) for text in beams}
    found = [(text, scale + math.log(ended + other) + ends[text]) for text, (ended, other) in beams.items()]
    return sorted(found, key=lambda each: -each[1])


def aligned_confidences(probabilities: Any, numbers: Sequence[int]) -> Any:
    """Return the probability of each character at its most probable step on the best path of a text.

    Args:
        probabilities: probability of each class at each step, [steps, classes]; class 0 is the blank.
        numbers: classes of the characters of a text that some path spells.

    Returns:
        float array of shape [characters].
    """
    # The states of the path are the characters, with blanks before, between and after them.
    states = np.zeros(2 * len(numbers) + 1, np.int64)
    states[1::2] = numbers
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    costs = -np.log(np.maximum(probabilities[:, states], 1e-300))
    total = np.full(len(states), np.inf)
    total[:2] = costs[0, :2]
    moves = np.zeros((len(costs), len(states)), np.int64)
    for step in range(1, len(costs)):
        before = np.full((3, len(states)), np.inf)
        before[0] = total
        before[1, 1:] = total[:-1]
        before[2, 2:] = np.where(skips[2:], total[:-2], np.inf)
        moves[step] = before.argmin(axis=0)
        total = before.min(axis=0) + costs[step]
    found = np.zeros(len(numbers))
    state = len(states) - 1 - int(len(numbers) > 0 and total[-2] < total[-1])
    for step in range(len(costs) - 1, -1, -1):
        if state % 2:
            found[state // 2] = max(found[state // 2], probabilities[step, states[state]])
        state -= int(moves[step, state])
    return found


class BeamReader:
    """A decoder that reads the most probable text; see `beam_search`.

    Args:
        codec: the alphabet of the model.
        params: width and language models.

    Raises:
        UsageError: a file of a language model cannot be used.
    """

    def __init__(self, codec: Codec, params: BeamSearch) -> None:
        self.codec = codec
        self.params = params
        words, texts = language_files(params)
        self.language: list[LanguageModel] = []
        if words:
            self.language.append(WordList(words, params.unknown_word))
        if texts:
            self.language.append(CharacterNgrams(texts, params.order, weight=params.weight, bonus=params.bonus))

    def read(self, logits: Any) -> Reading:
        """Return the most probable text. The confidence of a character is that of its most probable step.

        Args:
            logits: float array of shape [steps, classes].
        """
        best = self.codec.read(logits)
        exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
        found = beam_search(
            probabilities,
            self.codec.alphabet,
            width=self.params.width,
            least=self.params.least,
            language=self.language,
        )
        text = found[0][0]
        if text == best.text:
            return best
        confidences = aligned_confidences(probabilities, self.codec.encode(text))
        confidence = np.exp(np.log(confidences).mean()) if text else probabilities[:, 0].min()
        return Reading(text, float(confidence), confidences.astype(np.float32))
