"""Parameters of the optimizers, some with a fault."""

from aipcore.plugin import REQUIRED, Check, OptimizerParams, at_least, field, fraction, params


@params
class Plain(OptimizerParams):
    """Gradient descent with momentum."""

    momentum: float = field(0.9, help="Momentum of the steps.", check=fraction())


@params
class Untold(Plain):
    """Gradient descent with momentum."""


@params
class Required(Plain):
    """Gradient descent with momentum."""

    source: str = field(REQUIRED, help="No value would do.")


@params
class Undocumented(Plain):
    """Gradient descent with momentum."""

    nesterov: bool = field(False, help="nesterov")


@params
class Changing(Plain):
    """Gradient descent with momentum."""

    scale: float = field(1.0, help="Halved each time that it is read.")

    def __attrs_post_init__(self):
        object.__setattr__(self, "scale", self.scale / 2)


@params
class Lying(Plain):
    """Gradient descent with momentum."""

    every: int = field(1, help="Not used.", check=Check("at least 1", lambda value: value >= 0))


@params
class Momentum(Plain):
    """Gradient descent with momentum."""

    warmup: int = field(1, help="Not used.", check=at_least(0))


@params
class ForBuilds(Plain):
    """Gradient descent with momentum."""


@params
class ForRate(Plain):
    """Gradient descent with momentum."""


@params
class ForClipping(Plain):
    """Gradient descent with momentum."""


@params
class ForGolden(Plain):
    """Gradient descent with momentum."""


@params
class ForQuadratic(Plain):
    """Gradient descent with momentum."""


@params
class ForRosenbrock(Plain):
    """Gradient descent with momentum."""


@params
class ForTrace(Plain):
    """Gradient descent with momentum."""


@params
class ForDtypes(Plain):
    """Gradient descent with momentum."""


@params
class ForResume(Plain):
    """Gradient descent with momentum."""


@params
class ForXla(Plain):
    """Gradient descent with momentum."""
