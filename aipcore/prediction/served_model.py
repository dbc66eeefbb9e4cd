"""An exported model with the interface of a graph: named tensors to named tensors, and the inputs of the losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from aipcore.data.sample import ColumnSpec
from aipcore.errors import UsageError
from aipcore.prediction.locate import ModelDir
from aipcore.scenario.losses import set_mask
from aipcore.scenario.model import BARE_OUTPUT, applied_signature, argument_names, inputs_of
from aipcore.scenario.preprocessing import load_saved_model
from aipcore.training.checkpoint.weights import open_variables
from aipcore.training.export.saved_model import MASK, OUTPUT, PENALTY, SIGNATURE


class ServedModel:
    """A SavedModel with the interface of `Graph`, in inference mode only.

    Attributes:
        inputs: spec of each input, by name; a single unnamed input has the name "".
        outputs: names of the outputs; a single unnamed output has the name "".
        signature: serving function: keyword tensors to a dict of tensors.
        score: function that also returns penalty and masks, if the model has any; see `ServedModule`.

    Args:
        model: location of the model.

    Raises:
        UsageError: TensorFlow cannot load the model, or it does not match its record.
    """

    def __init__(self, model: ModelDir) -> None:
        try:
            open_variables(model.path)
            # The functions do not keep the variables alive.
            self._loaded = load_saved_model(model.path)
            self.signature = self._loaded.signatures[SIGNATURE]
            self.inputs: dict[str, ColumnSpec] = inputs_of(applied_signature(model.about))
            self.outputs = [str(name) for name in applied_signature(model.about)["outputs"]]
        except Exception as error:
            # A damaged file causes many kinds of errors in TensorFlow: IndexError, DecodeError, OpError and others.
            reason = " ".join(str(getattr(error, "message", None) or error).split())
            raise UsageError(f"The model {model.path} cannot be loaded ({reason}). Use another copy.") from error
        self.score = getattr(self._loaded, "score", None)
        self._penalty: Any = None
        arguments = argument_names(self.inputs).values()
        given = set(arguments), {name or BARE_OUTPUT for name in self.outputs}
        found = set(self.signature.structured_input_signature[1]), set(self.signature.structured_outputs)
        if given != found:
            raise UsageError(
                f"The model {model.path} has other inputs or outputs than its record. It is damaged. Use another copy."
            )

    def __call__(self, inputs: Mapping[str, Any], *, training: bool = False) -> dict[str, Any]:
        """Run the model on tensors of shape [batch, ...] by name."""
        if training:
            raise ValueError("An exported model cannot be trained.")
        arguments = argument_names(self.inputs)
        named = {argument: tf.convert_to_tensor(inputs[name]) for name, argument in arguments.items()}
        if self.score is None:
            result = self.signature(**named)
            self._penalty = None
            return {name: result[name or BARE_OUTPUT] for name in self.outputs}
        result = self.score(**named)
        self._penalty = result[PENALTY]
        outputs = {}
        for name in self.outputs:
            # Copied, since the mask becomes an attribute of the tensor.
            outputs[name] = tf.identity(result[f"{OUTPUT}{name or BARE_OUTPUT}"])
            mask = result.get(f"{MASK}{name or BARE_OUTPUT}")
            if mask is not None:
                set_mask(outputs[name], mask)
        return outputs

    def penalty(self) -> Any:
        """Return the sum of the regularizers' and `add_loss` penalties of the last call, a float32 scalar."""
        return tf.constant(0.0) if self._penalty is None else self._penalty

    @property
    def scores(self) -> bool:
        """True if losses depend on more than the outputs: on a penalty or on masks."""
        return self.score is not None

    @property
    def masked(self) -> list[str]:
        """The names of the outputs with a mask."""
        found = {} if self.score is None else self.score.structured_outputs
        return [name for name in self.outputs if f"{MASK}{name or BARE_OUTPUT}" in found]
