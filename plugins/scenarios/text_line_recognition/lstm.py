"""A bidirectional LSTM that trains fast on a CPU."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional` of an LSTM over padded sequences, with the same weights, values and saved form.

    On a CPU, all steps and both directions are projected at once, one loop runs both directions, and its gradient adds
    up the gradients of the weights after the loop. On a GPU, this is the layer of Keras, which uses cuDNN.

    Args:
        layer: an LSTM that returns sequences, with the default activations and without dropout and state.
    """

    # Saved as the layer of Keras, since only the computation differs.
    __module__ = "keras.layers"

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None) -> Any:
        """Return the outputs of both directions, [batch, steps, 2 * units], for sequences of [batch, steps, features].

        Args:
            sequences: padded at their ends.
            initial_state: only on a GPU.
            mask: False for the padding, bool [batch, steps].
            training: True for training mode.
        """
        if initial_state is not None or mask is None or tf.config.list_logical_devices("GPU"):
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        cells = self.forward_layer.cell, self.backward_layer.cell
        kernel, bias = (
            tf.concat([_sigmoids_first(getattr(cell, name)) for cell in cells], axis=-1) for name in ("kernel", "bias")
        )
        recurrent = tf.stack([_sigmoids_first(cell.recurrent_kernel) for cell in cells])
        lengths = tf.math.count_nonzero(mask, axis=1, dtype=tf.int32)
        # Time comes first. The backward direction starts at the end of each sequence, so the loop needs no mask.
        forward, backward = tf.split(tf.tensordot(tf.transpose(sequences, (1, 0, 2)), kernel, 1) + bias, 2, axis=-1)
        projected = tf.stack([forward, _reverse(backward, lengths)], axis=1)
        outputs = (_recur if training else _outputs)(projected, recurrent)
        outputs = tf.concat([outputs[:, 0], _reverse(outputs[:, 1], lengths)], axis=-1)
        return tf.transpose(outputs, (1, 0, 2)) * tf.cast(mask, outputs.dtype)[:, :, None]


def _sigmoids_first(weights: Any) -> Any:
    """Return the columns of the input, forget and output gates, and then those of the candidate."""
    entry, forget, candidate, exit_ = tf.split(tf.convert_to_tensor(weights), 4, axis=-1)
    return tf.concat([entry, forget, exit_, candidate], axis=-1)


def _reverse(values: Any, lengths: Any) -> Any:
    """Reverse the steps of each sequence in values of shape [steps, batch, ...], and keep its padding at the end."""
    return tf.reverse_sequence(values, lengths, seq_axis=0, batch_axis=1)


def _outputs(projected: Any, recurrent: Any) -> Any:
    """Return the outputs of LSTMs, [steps, directions, batch, units].

    Args:
        projected: the inputs multiplied by the kernel, with the bias, [steps, directions, batch, 4 * units].
        recurrent: the recurrent kernels, [directions, units, 4 * units].
    """
    return _run(projected, recurrent, keep=False)[0]


@tf.custom_gradient
def _recur(projected: Any, recurrent: Any) -> Any:
    """Return the same as `_outputs`, with a gradient that is fast."""
    outputs, states, sigmoids, candidates = _run(projected, recurrent, keep=True)

    def gradient(upstream: Any) -> Any:
        entry, forget, exit_ = tf.split(sigmoids, 3, axis=-1)
        before = tf.concat([tf.zeros_like(states[:1]), states[:-1]], axis=0)
        squashed = tf.tanh(states)
        # The derivatives of a step with respect to its gates, but for factors that depend on later steps.
        slopes = tf.concat(
            [
                candidates * entry * (1 - entry),
                before * forget * (1 - forget),
                squashed * exit_ * (1 - exit_),
                entry * (1 - candidates * candidates),
            ],
            axis=-1,
        )
        through = exit_ * (1 - squashed * squashed)
        upstreams, slopes, throughs, forgets = (_array(each) for each in (upstream, slopes, through, forget))

        def body(step: Any, of_output: Any, of_state: Any, found: Any) -> Any:
            step -= 1
            of_output += upstreams.read(step)
            of_state += of_output * throughs.read(step)
            of_gates = tf.concat([of_state, of_state, of_output, of_state], axis=-1) * slopes.read(step)
            of_state *= forgets.read(step)
            return step, tf.matmul(of_gates, recurrent, transpose_b=True), of_state, found.write(step, of_gates)

        steps, zeros = tf.shape(projected)[0], tf.zeros_like(states[0])
        found = tf.TensorArray(projected.dtype, steps, element_shape=projected.shape[1:])
        loop = tf.while_loop(lambda step, *_: step > 0, body, (steps, zeros, zeros, found), parallel_iterations=1)
        of_gates = loop[-1].stack()
        earlier = tf.concat([tf.zeros_like(outputs[:1]), outputs[:-1]], axis=0)
        return of_gates, tf.einsum("tdbu,tdbg->dug", earlier, of_gates)

    return outputs, gradient


def _run(projected: Any, recurrent: Any, *, keep: bool) -> list[Any]:
    """Return the outputs of all steps. If `keep`, also the states, the sigmoid gates and the candidates."""
    steps, units = tf.shape(projected)[0], recurrent.shape[1]
    inputs = _array(projected)

    def body(step: Any, output: Any, state: Any, *kept: Any) -> Any:
        gates = inputs.read(step) + tf.matmul(output, recurrent)
        sigmoids, candidate = tf.sigmoid(gates[..., : 3 * units]), tf.tanh(gates[..., 3 * units :])
        entry, forget, exit_ = tf.split(sigmoids, 3, axis=-1)
        state = forget * state + entry * candidate
        output = exit_ * tf.tanh(state)
        values = (output, state, sigmoids, candidate)
        return step + 1, output, state, *(array.write(step, value) for array, value in zip(kept, values, strict=False))

    sizes = (units, units, 3 * units, units) if keep else (units,)
    shape = projected.shape[1:-1]
    kept = [tf.TensorArray(projected.dtype, steps, element_shape=(*shape, size)) for size in sizes]
    zeros = tf.zeros_like(projected[0, :, :, :units])
    loop = tf.while_loop(lambda step, *_: step < steps, body, (0, zeros, zeros, *kept), parallel_iterations=1)
    return [array.stack() for array in loop[3:]]


def _array(values: Any) -> Any:
    return tf.TensorArray(values.dtype, tf.shape(values)[0], element_shape=values.shape[1:]).unstack(values)
