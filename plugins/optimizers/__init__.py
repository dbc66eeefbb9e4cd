"""Built-in optimizers."""

from __future__ import annotations

from aipcore.plugin import OptimizerRecord, hookimpl

_SUMMARIES = {
    "Adam": ("adam", "Adaptive moment estimation. The default optimizer."),
    "AdamW": ("adam", "Adam with decoupled weight decay, enabled by default."),
    "Adamax": ("adam", "Adam variant based on the infinity norm."),
    "Nadam": ("adam", "Adam with Nesterov momentum."),
    "AdaBelief": ("adabelief", "Adam variant that scales steps by the belief in the gradient direction."),
    "RMSprop": ("rmsprop", "Scales steps by a running average of squared gradients."),
    "SGD": ("sgd", "Stochastic gradient descent with optional momentum."),
    "LAMB": ("lamb", "Adam variant that scales steps by the norm of each variable, for large batches."),
    "Lion": ("lion", "Sign-based momentum optimizer that needs less memory than Adam."),
    "Muon": ("muon", "Orthogonalized momentum for matrices, AdamW for all other variables."),
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
