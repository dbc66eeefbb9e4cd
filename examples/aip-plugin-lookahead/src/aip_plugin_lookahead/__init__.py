"""Registration of Lookahead with aip. No heavy imports: aip imports the optimizer when it is selected."""

from aipcore.plugin import OptimizerRecord, hookimpl

AIP_API = 1


@hookimpl
def aip_optimizers() -> list[OptimizerRecord]:
    """Return the optimizer of this package."""
    return [
        OptimizerRecord(
            name="Lookahead",
            summary="Adam that moves back toward its slow weights every k steps.",
            params="aip_plugin_lookahead.params:LookaheadParams",
            build="aip_plugin_lookahead.optimizer:build",
        )
    ]


# As in Keras' Adam, 1 - beta_2^t is computed in the dtype of the weights, and 0.999 rounds to 1 in bfloat16.
AIP_TESTING = {"Lookahead": {"dtypes": ("float32", "float64")}}
