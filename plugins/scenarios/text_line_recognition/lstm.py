"""A bidirectional LSTM that trains fast on a CPU."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional` of an LSTM over padded sequences, with the same weights, values and saved form.

    In training on a CPU, the gradient of the loop over the steps is computed by hand: the gradients of the weights are
    products of large matrices after the loop instead of sums in each step. Otherwise, this is the layer of Keras: on a
    GPU it uses cuDNN, and exporters know its form.

    Args:
        layer: an LSTM that returns sequences, with the default activations and without dropout and state.
    """

    # Saved as the layer of Keras, since only the computation differs.
    __module__ = "keras.layers"

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None) -> Any:
        """Return the outputs of both directions, [batch, steps, 2 * units], for sequences of [batch, steps, features].

        Args:
            sequences: padded at their ends.
            initial_state: as in Keras.
            mask: False for the padding, bool [batch, steps].
            training: True for training mode.
        """
        if not training or initial_state is not None or mask is None or tf.config.list_logical_devices("GPU"):
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        mask = tf.transpose(tf.cast(mask, sequences.dtype))[:, :, None]
        directions = []
        for layer in (self.forward_layer, self.backward_layer):
            cell = layer.cell
            weights = [_sigmoids_first(each) for each in (cell.kernel, cell.recurrent_kernel, cell.bias)]
            directions.append(tf.custom_gradient(_Steps(mask, reverse=layer.go_backwards).run)(sequences, *weights))
        return tf.concat(directions, axis=-1)


def _sigmoids_first(weights: Any) -> Any:
    """Return the columns of the input, forget and output gates, and then those of the candidate."""
    entry, forget, candidate, exit_ = tf.split(tf.convert_to_tensor(weights), 4, axis=-1)
    return tf.concat([entry, forget, exit_, candidate], axis=-1)


class _Steps:
    """An LSTM in one direction.

    Args:
        mask: 1 for the steps of a sequence and 0 for its padding, [steps, batch, 1].
        reverse: True to begin with the last step.
    """

    def __init__(self, mask: Any, *, reverse: bool) -> None:
        self.mask = mask
        self.reverse = reverse

    def run(self, inputs: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        """Return the outputs, [batch, steps, units], for inputs of shape [batch, steps, features], and their gradient.

        The columns of the weights are those of `_sigmoids_first`.
        """
        inputs = tf.transpose(inputs, (1, 0, 2))
        steps, features, units = tf.shape(inputs)[0], inputs.shape[2], recurrent.shape[0]
        rows = tf.reshape(inputs, (-1, features))
        sums = tf.reshape(tf.nn.bias_add(tf.matmul(rows, kernel), bias), (steps, -1, 4 * units))
        outputs, states, sigmoids, candidates = self._run(sums, recurrent)

        def gradient(upstream: Any) -> Any:
            upstream = tf.transpose(upstream, (1, 0, 2))

            def body(step: Any, of_output: Any, of_state: Any, state: Any, found: Any) -> Any:
                step -= 1
                place = self._place(step, steps)
                before, gates, candidate, squashed = (
                    states.read(step),
                    sigmoids.read(step),
                    candidates.read(step),
                    tf.tanh(state),
                )
                entry, forget, exit_ = tf.split(gates, 3, axis=-1)
                of_output += upstream[place]
                of_state += tf.raw_ops.TanhGrad(y=squashed, dy=of_output * exit_)
                of_state *= self.mask[place]
                of_gates = tf.concat([of_state * candidate, of_state * before, of_output * squashed], axis=-1)
                of_gates = tf.raw_ops.SigmoidGrad(y=gates, dy=of_gates)
                of_gates = tf.concat([of_gates, tf.raw_ops.TanhGrad(y=candidate, dy=of_state * entry)], axis=-1)
                found = found.write(place, of_gates)
                return step, tf.matmul(of_gates, recurrent, transpose_b=True), of_state * forget, before, found

            found = tf.TensorArray(sums.dtype, steps, element_shape=(sums.shape[1], 4 * units))
            zeros = tf.zeros_like(outputs[0])
            start = (steps, zeros, zeros, states.read(steps), found)
            found = tf.while_loop(lambda step, *_: step > 0, body, start, parallel_iterations=1)[-1]
            of_gates = tf.reshape(found.stack(), (-1, 4 * units))
            before_, after = ([0, 1], outputs[1:]) if self.reverse else ([1, 0], outputs[:-1])
            earlier = tf.reshape(tf.pad(after, [before_, [0, 0], [0, 0]]), (-1, units))
            of_inputs = tf.reshape(tf.matmul(of_gates, kernel, transpose_b=True), tf.shape(inputs))
            of_kernel = tf.matmul(rows, of_gates, transpose_a=True)
            of_recurrent = tf.matmul(earlier, of_gates, transpose_a=True)
            return tf.transpose(of_inputs, (1, 0, 2)), of_kernel, of_recurrent, tf.reduce_sum(of_gates, axis=0)

        return tf.transpose(outputs, (1, 0, 2)), gradient

    def _run(self, sums: Any, recurrent: Any) -> list[Any]:
        """Return the outputs, and arrays of the states before each step, the sigmoid gates and the candidates."""
        steps, units = tf.shape(sums)[0], recurrent.shape[0]

        def body(step: Any, output: Any, state: Any, outputs: Any, states: Any, sigmoids: Any, candidates: Any) -> Any:
            place = self._place(step, steps)
            gates = sums[place] + tf.matmul(output, recurrent)
            gates, candidate = tf.sigmoid(gates[:, : 3 * units]), tf.tanh(gates[:, 3 * units :])
            entry, forget, exit_ = tf.split(gates, 3, axis=-1)
            state = (forget * state + entry * candidate) * self.mask[place]
            output = exit_ * tf.tanh(state)
            outputs, states = outputs.write(place, output), states.write(step + 1, state)
            return (
                step + 1,
                output,
                state,
                outputs,
                states,
                sigmoids.write(step, gates),
                candidates.write(step, candidate),
            )

        outputs, states, sigmoids, candidates = (
            tf.TensorArray(sums.dtype, steps + more, element_shape=(sums.shape[1], size), clear_after_read=False)
            for size, more in ((units, 0), (units, 1), (3 * units, 0), (units, 0))
        )
        zeros = tf.zeros((tf.shape(sums)[1], units), sums.dtype)
        start = (0, zeros, zeros, outputs, states.write(0, zeros), sigmoids, candidates)
        loop = tf.while_loop(lambda step, *_: step < steps, body, start, parallel_iterations=1)
        return [loop[3].stack(), *loop[4:]]

    def _place(self, step: Any, steps: Any) -> Any:
        return steps - 1 - step if self.reverse else step
