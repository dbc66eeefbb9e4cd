"""Parameters of the built-in optimizers; each class docstring recommends a learning rate for the tutorial."""

from __future__ import annotations

from aipcore.hooks.records import OptimizerParams
from aipcore.params import Check, above, at_least, field, fraction, params, regex


@params
class DecayingParams(OptimizerParams):
    """Parameters of optimizers with decoupled weight decay: w -= rate * weight_decay * w, before the step."""

    weight_decay: float = field(
        0.0, help="Decoupled weight decay, scaled by the scheduled learning rate; 0: none.", check=at_least(0)
    )
    exclude_from_weight_decay: tuple[str, ...] = field(
        (), help="Variables whose path matches one of these regular expressions do not decay.", check=regex()
    )


@params
class MomentsParams(DecayingParams):
    """Parameters of optimizers that average the gradient and its square."""

    beta_1: float = field(0.9, help="Decay of the average of gradients, per update.", check=fraction())
    beta_2: float = field(0.999, help="Decay of the average of squared gradients, per update.", check=fraction())
    epsilon: float = field(1e-7, help="Added to the denominator, against division by zero.", check=above(0))


@params
class AdamParams(MomentsParams):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015. For the tutorial: --learning_rate.lr 0.001."""

    amsgrad: bool = field(False, help="Divide by the largest average so far (Reddi et al., 2018).")


@params
class AdamWParams(MomentsParams):
    """Loshchilov and Hutter, "Decoupled Weight Decay", 2019. For the tutorial: --learning_rate.lr 0.001."""

    weight_decay: float = field(
        0.004, help="Decoupled weight decay, scaled by the scheduled learning rate; 0: none.", check=at_least(0)
    )
    amsgrad: bool = field(False, help="Divide by the largest average so far (Reddi et al., 2018).")


@params
class AdamaxParams(MomentsParams):
    """Kingma and Ba, 2015, section 7.1. For the tutorial: --learning_rate.lr 0.002."""


@params
class NadamParams(MomentsParams):
    """Dozat, "Incorporating Nesterov Momentum into Adam", 2016. For the tutorial: --learning_rate.lr 0.001."""


@params
class AdaBeliefParams(MomentsParams):
    """Zhuang et al., "AdaBelief Optimizer", 2020. For the tutorial: --learning_rate.lr 0.001."""

    epsilon: float = field(1e-14, help="Added to the belief after each update, and to its root.", check=above(0))
    rectify: bool = field(
        True, help="Take plain momentum steps until the belief has seen enough gradients (Liu et al., 2020)."
    )
    amsgrad: bool = field(False, help="Divide by the largest belief so far (Reddi et al., 2018).")


@params
class RMSpropParams(DecayingParams):
    """Hinton, "Neural Networks for Machine Learning", lecture 6, 2012. For the tutorial: --learning_rate.lr 0.001."""

    rho: float = field(0.9, help="Decay of the average of squared gradients, per update.", check=fraction())
    momentum: float = field(0.0, help="Momentum of the steps; 0: none.", check=fraction())
    epsilon: float = field(1e-7, help="Added inside the root, against division by zero.", check=above(0))
    centered: bool = field(False, help="Divide by the variance of the gradient instead of its mean square.")


@params
class SGDParams(DecayingParams):
    """w -= rate * gradient. For the tutorial: --learning_rate.lr 0.1.

    With momentum m: v = m * v - rate * gradient, w += v.
    """

    momentum: float = field(0.0, help="Momentum of the steps; 0: none.", check=fraction())
    nesterov: bool = field(False, help="Look ahead along the momentum (Sutskever et al., 2013).")


@params
class LAMBParams(MomentsParams):
    """You et al., "Large Batch Optimization for Deep Learning", 2020. For the tutorial: --learning_rate.lr 0.005.

    Weight decay stands inside the trust ratio, as in the paper: each variable steps by
    rate * |w| / |u| * u with u = adam step + weight_decay * w.
    """

    epsilon: float = field(1e-6, help="Added to the denominator, against division by zero.", check=above(0))


@params
class LionParams(DecayingParams):
    """Chen et al., "Symbolic Discovery of Optimizers", 2023. For the tutorial: --learning_rate.lr 0.0003."""

    beta_1: float = field(
        0.9,
        help="Weight of the average against the new gradient in the step.",
        check=Check("above 0 and below 1", lambda value: 0 < value < 1),
    )
    beta_2: float = field(0.99, help="Decay of the average of gradients, per update.", check=fraction())


@params
class MuonParams(DecayingParams):
    """Jordan et al., "Muon", 2024, scaled as by Liu et al., 2025. For the tutorial: --learning_rate.lr 0.002.

    Matrices (two axes) use Newton-Schulz-orthogonalised momentum. Embeddings, all other shapes, and layers matched by
    `adam_layers` use Adam, with the same weight decay.
    """

    momentum: float = field(0.95, help="Decay of the average of gradients, per update.", check=fraction())
    nesterov: bool = field(True, help="Look ahead along the momentum.")
    ns_steps: int = field(5, help="Iterations of Newton-Schulz.", check=at_least(1))
    rms_rate: float = field(0.2, help="Size of an update relative to the learning rate, per element.", check=above(0))
    adam_lr_ratio: float = field(1.0, help="Learning rate of Adam's part over Muon's.", check=above(0))
    adam_beta_1: float = field(0.9, help="Adam's part: decay of the average of gradients.", check=fraction())
    adam_beta_2: float = field(0.999, help="Adam's part: decay of the average of squared gradients.", check=fraction())
    epsilon: float = field(1e-7, help="Adam's part: added to the denominator.", check=above(0))
    adam_layers: tuple[str, ...] = field(
        (), help="Variables whose path matches one of these regular expressions get Adam.", check=regex()
    )
