"""Parameters of the built-in optimizers; each class docstring recommends a learning rate for the tutorial."""

from __future__ import annotations

from aipcore.hooks.records import OptimizerParams
from aipcore.params import Check, above, at_least, field, fraction, params, regex


@params
class DecayingParams(OptimizerParams):
    """Parameters of optimizers with decoupled weight decay: w -= rate * weight_decay * w, before the step."""

    weight_decay: float = field(
        0.0,
        help="Decoupled weight decay. It is scaled by the scheduled learning rate. 0 disables it.",
        check=at_least(0),
    )
    exclude_from_weight_decay: tuple[str, ...] = field(
        (), help="Regular expressions for paths of variables without decay.", check=regex()
    )


@params
class MomentsParams(DecayingParams):
    """Parameters of optimizers that average the gradient and its square."""

    beta_1: float = field(0.9, help="Decay rate of the averaged gradient, per update.", check=fraction())
    beta_2: float = field(0.999, help="Decay rate of the averaged squared gradient, per update.", check=fraction())
    epsilon: float = field(1e-7, help="Added to the denominator to prevent division by zero.", check=above(0))


@params
class AdamParams(MomentsParams):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.

    Suggested for the tutorial: --learning_rate.lr 0.001.
    """

    amsgrad: bool = field(False, help="Divide by the largest average so far. See AMSGrad (Reddi et al., 2018).")


@params
class AdamWParams(MomentsParams):
    """Loshchilov and Hutter, "Decoupled Weight Decay", 2019.

    Suggested for the tutorial: --learning_rate.lr 0.001.
    """

    weight_decay: float = field(
        0.004,
        help="Decoupled weight decay. It is scaled by the scheduled learning rate. 0 disables it.",
        check=at_least(0),
    )
    amsgrad: bool = field(False, help="Divide by the largest average so far. See AMSGrad (Reddi et al., 2018).")


@params
class AdamaxParams(MomentsParams):
    """Kingma and Ba, 2015, section 7.1.

    Suggested for the tutorial: --learning_rate.lr 0.002.
    """


@params
class NadamParams(MomentsParams):
    """Dozat, "Incorporating Nesterov Momentum into Adam", 2016.

    Suggested for the tutorial: --learning_rate.lr 0.001.
    """


@params
class AdaBeliefParams(MomentsParams):
    """Zhuang et al., "AdaBelief Optimizer", 2020.

    Suggested for the tutorial: --learning_rate.lr 0.001.
    """

    epsilon: float = field(1e-14, help="Added to the belief in each update, and to its root.", check=above(0))
    rectify: bool = field(
        True,
        help="Rectify the first steps, as in RAdam. Steps use momentum only until the belief averages enough "
        "gradients (Liu et al., 2020).",
    )
    amsgrad: bool = field(False, help="Divide by the largest belief so far. See AMSGrad (Reddi et al., 2018).")


@params
class RMSpropParams(DecayingParams):
    """Hinton, "Neural Networks for Machine Learning", lecture 6, 2012.

    Suggested for the tutorial: --learning_rate.lr 0.001.
    """

    rho: float = field(0.9, help="Decay rate of the averaged squared gradient, per update.", check=fraction())
    momentum: float = field(0.0, help="Momentum of the steps. 0 disables it.", check=fraction())
    epsilon: float = field(1e-7, help="Added inside the root to prevent division by zero.", check=above(0))
    centered: bool = field(False, help="Divide by the gradient's variance, not its mean square.")


@params
class SGDParams(DecayingParams):
    """Gradient descent: w -= rate * gradient.

    Suggested for the tutorial: --learning_rate.lr 0.1.

    With momentum m: v = m * v - rate * gradient, w += v.
    """

    momentum: float = field(0.0, help="Momentum of the steps. 0 disables it.", check=fraction())
    nesterov: bool = field(False, help="Use Nesterov momentum (Sutskever et al., 2013).")


@params
class LAMBParams(MomentsParams):
    """You et al., "Large Batch Optimization for Deep Learning", 2020.

    Suggested for the tutorial: --learning_rate.lr 0.005.

    Weight decay is part of the trust ratio, as in the paper: the step of each variable is
    rate * |w| / |u| * u, with u = Adam step + weight_decay * w.
    """

    epsilon: float = field(1e-6, help="Added to the denominator to prevent division by zero.", check=above(0))


@params
class LionParams(DecayingParams):
    """Chen et al., "Symbolic Discovery of Optimizers", 2023.

    Suggested for the tutorial: --learning_rate.lr 0.0003.
    """

    beta_1: float = field(
        0.9,
        help="Weight of the averaged gradient in the step. The new gradient has the remaining weight.",
        check=Check("above 0 and below 1", lambda value: 0 < value < 1),
    )
    beta_2: float = field(0.99, help="Decay rate of the averaged gradient, per update.", check=fraction())


@params
class MuonParams(DecayingParams):
    """Jordan et al., "Muon", 2024, scaled as by Liu et al., 2025.

    Suggested for the tutorial: --learning_rate.lr 0.002.

    Matrices (two axes) use Newton-Schulz-orthogonalized momentum. Embeddings, all other shapes, and layers matched by
    `adam_layers` use Adam, with the same weight decay.
    """

    momentum: float = field(0.95, help="Decay rate of the averaged gradient, per update.", check=fraction())
    nesterov: bool = field(True, help="Use Nesterov momentum.")
    ns_steps: int = field(5, help="Newton-Schulz iterations per update.", check=at_least(1))
    rms_rate: float = field(0.2, help="Update size per element, relative to the learning rate.", check=above(0))
    adam_lr_ratio: float = field(1.0, help="Ratio of Adam's learning rate to Muon's.", check=above(0))
    adam_beta_1: float = field(0.9, help="Decay rate of Adam's averaged gradient, per update.", check=fraction())
    adam_beta_2: float = field(0.999, help="Decay rate of Adam's averaged squared gradient.", check=fraction())
    epsilon: float = field(1e-7, help="Added to Adam's denominator to prevent division by zero.", check=above(0))
    adam_layers: tuple[str, ...] = field(
        (), help="Regular expressions for paths of variables that use Adam.", check=regex()
    )
