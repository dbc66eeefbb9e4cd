"""Registers Lookahead with aip. Nothing heavy is imported here: aip does that when the optimizer is chosen."""

from aipcore.plugin import OptimizerRecord, hookimpl

AIP_API = 1


@hookimpl
def aip_optimizers() -> list[OptimizerRecord]:
    """The one optimizer of this package."""
    return [
        OptimizerRecord(
            name="Lookahead",
            summary="Adam that every k steps goes back part of the way it came.",
            params="aip_plugin_lookahead.params:LookaheadParams",
            build="aip_plugin_lookahead.optimizer:build",
        )
    ]


# As in Keras' Adam, 1 - beta_2^t is computed in the type of the weights, and 0.999 is 1 in bfloat16.
AIP_TESTING = {"Lookahead": {"dtypes": ("float32", "float64")}}
