"""The parameters of Lookahead: light, since `aip train --help` reads them."""

from aipcore.plugin import OptimizerParams, above, at_least, between, field, fraction, params


@params
class LookaheadParams(OptimizerParams):
    """Zhang et al., "Lookahead Optimizer", 2019, around Adam. For the tutorial: --learning_rate.lr 0.002."""

    k: int = field(6, help="Steps of the fast weights between two steps of the slow ones.", check=at_least(1))
    alpha: float = field(0.5, help="How far the slow weights follow the fast ones.", check=between(0, 1))
    beta_1: float = field(0.9, help="Decay of Adam's average of gradients, per step.", check=fraction())
    beta_2: float = field(0.999, help="Decay of Adam's average of squared gradients, per step.", check=fraction())
    epsilon: float = field(1e-7, help="Added to Adam's denominator, against division by zero.", check=above(0))
