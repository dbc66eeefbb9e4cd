"""TensorBoard records of the tutorial."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.scenario import Histogram, ImageGrid, PRCurve, Summary


def digit_summaries(images: npt.NDArray[Any], labels: npt.NDArray[Any], logits: npt.NDArray[Any]) -> list[Summary]:
    """Return misread digits, the logits, and precision-recall curves of the predictions.

    Args:
        images: shape [samples, height, width], from 0 to 1.
        labels: shape [samples], from 0 to 9.
        logits: shape [samples, 10].
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = powers / powers.sum(axis=-1, keepdims=True)
    is_digit = labels[:, None] == np.arange(logits.shape[-1])
    records: list[Summary] = [
        Histogram("logits/of_the_digit", logits[is_digit], text="Logits of the digit that the image shows."),
        Histogram("logits/of_the_others", logits[~is_digit], text="Logits of all other digits."),
        PRCurve("digit", is_digit, probabilities, text="All ten digits together."),
    ]
    misread = logits.argmax(axis=-1) != labels
    if misread.any():
        # The most confident mistakes first: they reveal the most about the data.
        order = np.argsort(-probabilities[misread].max(axis=-1), kind="stable")
        records.append(
            ImageGrid("misread", images[misread][order], text="Misread digits, the most confident mistakes first.")
        )
    return records
