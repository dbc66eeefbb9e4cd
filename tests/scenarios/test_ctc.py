"""The CTC loss, compared with all paths, with Keras and with another padding."""

from __future__ import annotations

from itertools import groupby, product
from typing import Any

import numpy as np
import pytest

from aipcore.scenario import ctc_loss


def loss_by_definition(logits: Any, text: list[int], blank: int) -> float:
    """Return the loss from the probabilities of all paths, for logits of shape [steps, classes]."""
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    total = 0.0
    for path in product(range(logits.shape[1]), repeat=len(logits)):
        if [label for label, _ in groupby(path) if label != blank] == text:
            total += np.prod([row[label] for row, label in zip(probabilities, path, strict=True)])
    return -np.log(total) if total else np.inf


def values_and_gradients(function: Any, *arguments: Any, **named: Any) -> tuple[Any, Any]:
    """Return the losses of a function, and the gradient of their weighted sum with respect to the logits."""
    import tensorflow as tf

    target, logits, *lengths = map(tf.constant, arguments)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = function(target, logits, *lengths, **named)
        total = tf.reduce_sum(values * tf.range(1.0, len(values) + 1))
    return values.numpy(), tape.gradient(total, logits).numpy()


@pytest.mark.parametrize("blank", [0, 1, 3])
def test_sum_over_all_paths(blank: int) -> None:
    """The loss is that of the definition, with repeated, empty and too long targets, for any blank."""
    logits = np.random.default_rng(blank).normal(0, 2, (6, 5, 4)).astype(np.float32)
    labels = [label for label in range(4) if label != blank]
    texts = [[labels[0], labels[1]], [labels[2], labels[2]], [], [labels[1]] * 4, [labels[0]], labels]
    steps = [5, 4, 5, 5, 1, 3]
    targets = np.full((6, 4), labels[0], np.int32)
    for row, text in zip(targets, texts, strict=True):
        row[: len(text)] = text
    values, gradients = values_and_gradients(
        ctc_loss, targets, logits, [len(text) for text in texts], steps, mask_index=blank
    )
    expected = [
        loss_by_definition(row[:count], text, blank) for row, text, count in zip(logits, texts, steps, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert np.isinf(values[3])
    assert not gradients[3].any()
    # The gradient, by the difference of two losses.
    for place in ((0, 1, 2), (1, 2, blank), (2, 4, labels[0]), (5, 0, labels[0])):
        moved = [logits.astype(np.float64), logits.astype(np.float64)]
        moved[0][place] += 1e-4
        moved[1][place] -= 1e-4
        index = place[0]
        above, below = (loss_by_definition(each[index, : steps[index]], texts[index], blank) for each in moved)
        assert gradients[place] == pytest.approx((index + 1) * (above - below) / 2e-4, abs=1e-4)


def forward_backward(logits: Any, text: list[int]) -> tuple[float, Any]:
    """Return the loss and its gradient in float64, by the recursions of Graves et al., for the blank 0."""
    logits = logits.astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    states = [0, *(each for label in text for each in (label, 0))]

    def alpha(probabilities: Any, states: list[int]) -> Any:
        table = np.zeros((len(probabilities), len(states)))
        table[0, :2] = probabilities[0, states[:2]]
        for step in range(1, len(table)):
            for place, state in enumerate(states):
                skips = place > 1 and state not in (0, states[place - 2])
                table[step, place] = table[step - 1, max(0, place - 1 - skips) : place + 1].sum()
            table[step] *= probabilities[step, states]
        return table

    forward = alpha(probabilities, states)
    backward = alpha(probabilities[::-1], states[::-1])[::-1, ::-1] / probabilities[:, states]
    total = forward[-1, -2:].sum()
    gradient = probabilities.copy()
    for place, state in enumerate(states):
        gradient[:, state] -= forward[:, place] * backward[:, place] / total
    return -np.log(total), gradient


@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "xla"])
def test_equals_keras(compiled: bool | None) -> None:
    """Longer samples have the values and gradients of Keras and of another implementation, under XLA too."""
    import keras
    import tensorflow as tf

    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (5, 60, 30)).astype(np.float32)
    targets = random.integers(1, 30, (5, 20)).astype(np.int32)
    lengths, steps = np.array([20, 3, 1, 12, 20], np.int32), np.array([60, 60, 11, 30, 45], np.int32)
    function = ctc_loss
    if compiled is not None:
        function = tf.function(ctc_loss, jit_compile=compiled, autograph=False)
    values, gradients = values_and_gradients(function, targets, logits, lengths, steps)
    expected, expected_gradients = values_and_gradients(keras.ops.ctc_loss, targets, logits, lengths, steps)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(gradients, expected_gradients, atol=1e-3)
    for row in range(5):
        value, gradient = forward_backward(logits[row, : steps[row]], targets[row, : lengths[row]].tolist())
        assert values[row] == pytest.approx(value, rel=1e-5)
        np.testing.assert_allclose(gradients[row, : steps[row]], (row + 1) * gradient, atol=1e-3)


def test_padding_is_ignored() -> None:
    """Further steps and labels do not change a loss or its gradient; logits of half precision are converted."""
    random = np.random.default_rng(2)
    logits = random.normal(size=(2, 12, 6)).astype(np.float32)
    targets, lengths, steps = random.integers(1, 6, (2, 4)).astype(np.int32), [4, 2], [12, 7]
    values, gradients = values_and_gradients(ctc_loss, targets, logits, lengths, steps)
    padded = np.pad(logits, [[0, 0], [0, 9], [0, 0]], constant_values=7.0)
    wider = np.pad(targets, [[0, 0], [0, 3]], constant_values=99)
    again, more = values_and_gradients(ctc_loss, wider, padded, lengths, steps)
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(more[:, :12], gradients)
    assert not more[:, 12:].any()
    assert not gradients[1, 7:].any()
    half = np.asarray(ctc_loss(targets, logits.astype(np.float16), lengths, steps))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, values, rtol=1e-2)


def test_empty_batch_of_targets() -> None:
    """A batch whose targets are all empty has the loss of the path of blanks."""
    logits = np.zeros((2, 3, 4), np.float32)
    values = np.asarray(ctc_loss(np.zeros((2, 0), np.int32), logits, [0, 0], [3, 2]))
    np.testing.assert_allclose(values, [3 * np.log(4), 2 * np.log(4)], rtol=1e-6)
