"""The parameters every plugin of a kind shares; a plugin's own parameter class extends one of these."""

from __future__ import annotations

from aipcore.params import above, field, params


@params
class OptimizerParams:
    """Parameters of every optimizer.

    Clipping is done by the training loop, on the gradient of a whole optimizer update, before the optimizer sees it.
    Given together, the three are applied in the order in which they stand here.
    """

    clip_value: float | None = field(
        None, help="Clip every element of the gradient to [-clip_value, clip_value].", check=above(0)
    )
    clip_norm: float | None = field(
        None, help="Scale the gradient of each variable down to this L2 norm.", check=above(0)
    )
    clip_global_norm: float | None = field(
        None, help="Scale all gradients together down to this joint L2 norm.", check=above(0)
    )


@params
class ScheduleParams:
    """Parameters of every learning-rate schedule. A schedule counts optimizer updates, not micro-batches."""

    lr: float = field(0.001, help="The learning rate that the schedule starts from or rises to.", check=above(0))
    offset_epochs: float = field(
        0.0,
        help="Epochs to shift the schedule by: at epoch e it gives the rate of epoch e - offset_epochs. Above 0: it "
        "begins later, and until then keeps the rate that it begins with. Below 0: its first epochs are left out.",
    )


@params
class CallbackParams:
    """Parameters of every callback."""

    def check(self) -> None:
        """Looks for what the parameters need, such as a package, before TensorFlow is imported.

        Raises:
            UsageError: something is missing.
        """


@params
class ExporterParams:
    """Parameters of every exporter."""
