"""The parameters of Lookahead. No heavy imports, because `aip train --help` reads them."""

from aipcore.plugin import OptimizerParams, above, at_least, between, field, fraction, params


@params
class LookaheadParams(OptimizerParams):
    """Lookahead (Zhang et al., "Lookahead Optimizer", 2019) around Adam.

    Suggested for the tutorial: --learning_rate.lr 0.002.
    """

    k: int = field(6, help="Steps of the fast weights per step of the slow weights.", check=at_least(1))
    alpha: float = field(0.5, help="Step size of the slow weights towards the fast weights.", check=between(0, 1))
    beta_1: float = field(0.9, help="Decay rate of Adam's averaged gradient, per update.", check=fraction())
    beta_2: float = field(0.999, help="Decay rate of Adam's averaged squared gradient.", check=fraction())
    epsilon: float = field(1e-7, help="Added to Adam's denominator to prevent division by zero.", check=above(0))
