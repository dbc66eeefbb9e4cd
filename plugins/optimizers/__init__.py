"""Built-in optimizers."""

from __future__ import annotations

from aipcore.plugin import OptimizerRecord, hookimpl

_SUMMARIES = {
    "Adam": ("adam", "Adaptive moments; the default."),
    "AdamW": ("adam", "Adam with decoupled weight decay on by default."),
    "Adamax": ("adam", "Adam with the infinity norm for its second moment."),
    "Nadam": ("adam", "Adam with Nesterov momentum."),
    "AdaBelief": ("adabelief", "Steps by how far the gradient is from what was expected of it."),
    "RMSprop": ("rmsprop", "Divides by the root of the mean squared gradient."),
    "SGD": ("sgd", "Plain gradient descent, with momentum if wanted."),
    "LAMB": ("lamb", "Adam with a step per variable in proportion to its norm; for large batches."),
    "Lion": ("lion", "Steps by the sign of an averaged gradient; needs less memory than Adam."),
    "Muon": ("muon", "Orthogonalised momentum for matrices, AdamW for everything else."),
}


@hookimpl
def aip_optimizers() -> list[OptimizerRecord]:
    """Return the optimizers of this package."""
    return [
        OptimizerRecord(
            name=name,
            summary=summary,
            params=f"aip_plugins.optimizers.params:{name}Params",
            build=f"aip_plugins.optimizers.{module}:build_{name.lower()}",
        )
        for name, (module, summary) in _SUMMARIES.items()
    ]


# Keras computes 1 - beta_2^t in the dtype of the weights, and 0.999 is 1 in bfloat16. aip keeps weights in float32.
_NOT_BFLOAT16 = {"dtypes": ("float32", "float64")}

AIP_TESTING = {
    "Adam": _NOT_BFLOAT16,
    "AdamW": _NOT_BFLOAT16,
    "Nadam": _NOT_BFLOAT16,
    # Keras' Muon multiplies float32 numbers into steps of any dtype.
    "Muon": {"dtypes": ("float32",), "rates": (0.2, 0.1, 0.02)},
}
