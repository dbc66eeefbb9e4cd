"""Names from other frameworks in scenarios and evaluators, with the equivalent in aip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aipcore.errors import ScenarioError
from aipcore.params.author_class import check_author_class
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.updates import check_updates, losses_used

_CALLBACKS = (
    "Return Keras callbacks from callbacks(context), or select some with --callbacks NAME or "
    "defaults = {'callbacks': ['NAME']}."
)
_LOSSES = "Return Keras losses from losses(), or values of each sample from loss_values(inputs, targets, outputs)."
_UPDATES = (
    "Return losses from losses() or loss_values(inputs, targets, outputs). For several losses and optimizers in each "
    "step, write updates = (Update(...), ...)."
)
_OPTIMIZER = "Write defaults = {'optimizer': 'SGD'}, or pass --optimizer SGD."
_RATE = "Write defaults = {'learning_rate.lr': 0.01}, or pass --learning_rate.lr 0.01."
_MODEL = "Build the model in build(inputs)."
_VALIDATION = "Return the validation data from val_data()."
_TEST = "Return further validation data by name from lav_data()."
_TRAIN = "Return the training data from train_data()."
_PROCESSORS = "Return processors of samples from processors()."
_STOPPING = "Write defaults = {'early_stopping.n_to_go': 5}, or pass --early_stopping.n_to_go 5."


def _default(path: str, value: object) -> str:
    return f"Write defaults = {{{path!r}: {value!r}}}, or pass --{path} {value}."


_GROUPS: Final = {
    _CALLBACKS: "callback makecallbacks getcallbacks configurecallbacks onepochbegin onepochend ontrainbegin "
    "ontrainend ontrainbatchbegin ontrainbatchend ontrainstart onfitstart onfitend",
    _LOSSES: "loss lossfn lossfunction computeloss teststep validationstep evalstep makeloss getloss",
    _UPDATES: "trainstep trainingstep",
    "Return Keras metrics from metrics().": "metric computemetrics getmetrics makemetrics",
    _OPTIMIZER: "optimizer optimizers makeoptimizer getoptimizer configureoptimizers createoptimizer optim",
    _RATE: "lr learningrate learningrateschedule lrschedule scheduler schedule",
    _MODEL: "model buildmodel createmodel makemodel getmodel forward call buildgraph creategraph",
    _VALIDATION: "validationdata validdata devdata valdataset validationdataset valdataloader valgenerator",
    _TEST: "testdata testdataset evaldata testdataloader",
    _TRAIN: "data dataset trainingdata traindataset traindataloader traingenerator loaddata",
    _PROCESSORS: "preprocess preprocessing process transform transforms augment augmentation preproc",
    "Return post-processors from post_processors().": "postprocess postprocessing postproc",
    "Return an evaluator from evaluator().": "evaluate evaluation",
    "Write params_class = YourParams.": "params parameters paramsclass",
    _STOPPING: "earlystopping patience",
    _default("trainer.epochs", 20): "epochs numepochs maxepochs nepochs",
    _default("train.batch_size", 32): "batchsize",
    _default("trainer.random_seed", 1): "seed randomseed",
    _default("trainer.precision", "bfloat16"): "precision mixedprecision",
    "Use --train.class_weight 0=1 1=5.": "classweight classweights",
}

SCENARIO_WAYS: Final[Mapping[str, str]] = {name: way for way, names in _GROUPS.items() for name in names.split()}
"""Maps a normalized name from another framework to its equivalent in aip."""


def check_scenario(cls: type[Scenario]) -> None:
    """Check for methods and attributes that aip would ignore, before TensorFlow is imported.

    Raises:
        ScenarioError: there is one. The error names the equivalent in aip or the nearest name.
    """
    updates = cls.updates if isinstance(cls.updates, list | tuple) else ()
    check_author_class(cls, SCENARIO_WAYS, used=losses_used(updates))
    check_updates(cls)
    for name in ("losses", "loss_values", "loss_weights") if updates else ():
        if getattr(cls, name) is not getattr(Scenario, name):
            raise ScenarioError(
                f"{cls.__name__} defines updates and {name}(). Each update has a loss of its own. Remove {name}()."
            )
    if not (isinstance(cls.params_class, type) and issubclass(cls.params_class, ScenarioParams)):
        raise ScenarioError(f"{cls.__name__}.params_class is not a parameter class. Extend ScenarioParams.")
    if not isinstance(cls.defaults, Mapping):
        raise ScenarioError(
            f"{cls.__name__}.defaults is not a mapping. Write a mapping such as {{'trainer.epochs': 20}}."
        )


def has_loss_values(cls: type[Scenario]) -> bool:
    """Return True if the losses are the author's own values, defined by the nearest class that defines losses.

    Raises:
        ScenarioError: one class defines both `losses` and `loss_values`.
    """
    for each in cls.__mro__:
        found = {"losses", "loss_values"} & vars(each).keys()
        if each is Scenario or not found:
            continue
        if len(found) == 2:
            raise ScenarioError(f"{each.__name__} defines losses() and loss_values(). Define one of them.")
        return found == {"loss_values"}
    return False
