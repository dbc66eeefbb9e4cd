"""Parameters of training. This module does not import TensorFlow, so that `--help` stays fast."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from aipcore.distributed.params import DeviceParams
from aipcore.hooks.records import CallbackParams, ExporterParams, OptimizerParams, ScheduleParams
from aipcore.params import Check, Choice, above, at_least, component, components, field, group, params, positions, regex
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.updates import AnyUpdate
from aipcore.training.engine.rates import is_rule
from aipcore.training.update_params import derived, updates_class
from aipcore.training.warmstart.params import WarmstartParams

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""Keras' dtype policy for each `trainer.precision`: layers compute in it and keep their weights in float32."""

RATES = Check("PATTERN=FACTOR or PATTERN@EPOCH=FACTOR with a factor of at least 0, such as 'encoder/.*@3=0.1'", is_rule)


MOST_FOLDS = 1000
"""Maximum number of folds of a cross-validation."""


@params
class CheckpointParams:
    """Checkpoints for resuming a run."""

    keep: int = field(2, help="Number of newest complete checkpoints to keep.", check=at_least(1))
    every_steps: int | None = field(
        None,
        help="Batches between checkpoints within an epoch. A checkpoint is written at the end of a call of the "
        "compiled function. none writes checkpoints only between epochs.",
        check=at_least(1),
    )
    every_minutes: float | None = field(
        None,
        help="Minutes between checkpoints within an epoch. A checkpoint is written at the end of a call of the "
        "compiled function. none writes checkpoints only between epochs.",
        check=above(0),
    )
    on_error: Literal["raise", "warn"] = field(
        "raise",
        help="Action when a write fails, for example on a full disk. It applies to checkpoints, models and event "
        "files. raise ends the run with an error. warn prints a warning and continues training. Earlier files "
        "are unchanged.",
    )


@params
class ExportParams:
    """Export of the best and the final model."""

    formats: tuple[Choice[ExporterParams], ...] = components(
        "exporter",
        default=("SavedModel",),
        help="Export formats of the best and the final model. Exporter plugins write them. SavedModel is always "
        "written.",
    )


@params
class EarlyStoppingParams:
    """Conditions for stopping before the last epoch, on the value of trainer.monitor."""

    n_to_go: int | None = field(
        None,
        help="Epochs without improvement before training stops. With trainer.val_every_steps, it counts validations. "
        "none disables it.",
        check=at_least(1),
        aliases=("patience",),
    )
    min_delta: float = field(
        0.0,
        help="Change above which a value is an improvement for n_to_go. The change is measured from the last "
        "improvement, as in Keras. The best model does not depend on it.",
        check=at_least(0),
    )
    frequency: int = field(
        1,
        help="Epochs between checks of n_to_go. With trainer.val_every_steps, it counts validations. The threshold "
        "that stops training immediately is checked in every epoch and in every validation.",
        check=at_least(1),
    )
    lower_threshold: float | None = field(
        None,
        help="Lower threshold of the monitored value. If lower values are better, training stops immediately when the "
        "value reaches it. If higher values are better, n_to_go has no effect before the value has reached it.",
    )
    upper_threshold: float | None = field(
        None,
        help="Upper threshold of the monitored value. If higher values are better, training stops immediately when "
        "the value reaches it. If lower values are better, n_to_go has no effect before the value has reached it.",
    )


@params
class TrainerParams:
    """Length, settings and output of training."""

    output_dir: Path | None = field(
        None, help="Folder for all files of the run. none creates a new folder runs/SCENARIO-N."
    )
    epochs: int | None = field(
        100,
        help="Total number of training epochs. none trains until max_steps.",
        check=at_least(1),
    )
    max_steps: int | None = field(
        None,
        help="Total number of optimizer updates. The last epoch may end early, and schedules end with it. If it is set "
        "later than epochs, for example on the command line, it replaces epochs. If both are set, training ends at the "
        "first of them. none trains for all epochs.",
        check=at_least(1),
        replaces=("epochs",),
    )
    samples_per_epoch: int = field(
        -1,
        help="Training samples per epoch. -1 uses the whole dataset.",
        check=Check("-1 or at least 1", lambda samples: samples == -1 or samples >= 1),
    )
    scale_epoch_size: float = field(1.0, help="Factor for the number of samples per epoch.", check=above(0))
    accumulate_steps: int = field(
        1,
        help="Batches per optimizer update. Their gradients are summed.",
        check=at_least(1),
        aliases=("gradient_accumulation_steps",),
    )
    input_gradient_penalty: float = field(
        0.0,
        help="Weight of the input-gradient penalty in the loss. The penalty is the mean squared norm of the gradient "
        "of a sample's loss with respect to its inputs. 0 disables it.",
        check=at_least(0),
    )
    folds: int | None = field(
        None,
        help="Folds of a cross-validation. The training data is divided into this many parts. For each part, a run "
        "trains on the others and validates on the part. none trains one run.",
        check=Check(f"from 2 to {MOST_FOLDS}", lambda folds: 2 <= folds <= MOST_FOLDS),
    )
    fold: int | None = field(
        None,
        help="Fold to train, counted from 1. none trains all folds. Needs folds and random_seed.",
        check=at_least(1),
    )
    folds_by: str | None = field(
        None,
        help="Key of the group in the meta of the samples. Samples of one group are in the same fold. none uses the "
        "key group if the meta has it.",
    )
    fold_processes: int = field(1, help="Processes that train folds at the same time.", check=at_least(1))
    random_seed: int | None = field(
        None,
        help="Seed for weights, data order and dropout. none draws a seed at random and records it.",
        check=at_least(0),
        aliases=("seed",),
    )
    deterministic: bool = field(
        False,
        help="Use only deterministic operations. Results are bit-identical even on GPUs, possibly at lower speed. "
        "Operations without a deterministic variant raise an error.",
    )
    grace_seconds: float = field(
        30.0,
        help="Seconds to finish and save after SIGINT or SIGTERM. The run finishes the current call of the compiled "
        "function and saves. After this time, the process exits immediately.",
        check=above(0),
    )
    force_eager: bool = field(
        False,
        help="Run step by step without compilation. This is slow, but useful for debugging.",
        aliases=("run_eagerly",),
    )
    jit_compile: Literal["auto", "on", "off"] = field(
        "auto",
        help="Compile the training loop with XLA. auto times the run with and without XLA if it is long enough to "
        "benefit.",
    )
    fused_kernels: bool = field(
        True,
        help="Compute batch normalisation in training with fused kernels. They differ from Keras in the last digits. "
        "Inference and exported models are not affected.",
    )
    padding_sizes: int = field(
        8,
        help="Maximum number of sizes for batches of varying size. Batches are padded to these sizes only for XLA, "
        "which compiles the loop for each of them. More sizes need less padding and more compilations.",
        check=at_least(1),
    )
    tune: Literal["auto", "off"] = field(
        "auto",
        help="Measure the fastest way to train before the first batch. auto measures whether XLA is faster and how "
        "many steps per call are best. off uses XLA only if jit_compile is on, and 16 steps per call, or as many as "
        "fit into 16 MiB.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = field(
        "float32",
        help="Number format of activations and gradients. Weights stay float32. float16 scales the loss as needed.",
    )
    val_every_n: int | None = field(
        1,
        help="Epochs between validations. The last epoch is always validated. none validates only the last epoch.",
        check=at_least(1),
        aliases=("validation_freq",),
    )
    val_every_steps: int | None = field(
        None,
        help="Optimizer updates between validations. They are counted over the whole run, so that validation also runs "
        "within epochs. best, early stopping and ReduceOnPlateau use these validations. It replaces val_every_n, "
        "unless both are set. none validates only after epochs.",
        check=at_least(1),
        aliases=("eval_steps",),
        replaces=("val_every_n",),
    )
    log_every_steps: int | None = field(
        None,
        help="Optimizer updates between logged values. The losses, the metrics, the learning rate and samples per "
        "second go to TensorBoard and to the log within epochs. none logs only after epochs.",
        check=at_least(1),
        aliases=("logging_steps", "log_every_n_steps"),
    )
    lav_every_n: int = field(
        0,
        help="Epochs between LAV runs. LAV runs the prediction graph and the evaluator on the validation data. 0 "
        "disables it. Otherwise, LAV also runs in the first and the last epoch, but never before lav_min_epoch.",
        check=at_least(0),
    )
    lav_min_epoch: int = field(
        1,
        help="First epoch with LAV, counted from 1. If it is above 1, LAV does not run in the first epoch.",
        check=at_least(1),
    )
    summaries_every_n: int = field(
        10,
        help="Epochs between the scenario's TensorBoard summaries. Summaries are images, histograms and PR curves, if "
        "the scenario defines any. 0 disables them. Otherwise, the first and the last epoch always have them.",
        check=at_least(0),
    )
    profile: bool = field(False, help="Trace some batches for TensorBoard's profile plugin.")
    profile_steps: tuple[int, int] = field(
        (10, 20),
        help="First and last batch to trace. Batches are counted from 1 over the whole run.",
        check=positions(),
    )
    no_train_scope: str | None = field(
        None,
        help="Regular expression for the paths of layers to freeze. It must match a whole path. All layers inside a "
        "matching layer are frozen too.",
        check=regex(),
        aliases=("freeze",),
    )
    rates: tuple[str, ...] = field(
        (),
        help="Factors on the learning rate, by path and epoch. PATTERN is a regular expression for the paths of layers "
        "or weights. It must match a whole path. All layers inside a matching layer are included. 0 freezes, as "
        "no_train_scope does. PATTERN@3=FACTOR applies from epoch 3 on, and PATTERN@500u=FACTOR from optimizer update "
        "500 on. Of the rules that match and have started, the last one applies.",
        check=RATES,
    )
    calc_ema: float = field(
        0.0,
        help="Decay rate of the EMA of the weights. Validation and export use the averaged weights. 0 disables it. A "
        "negative value computes the rate from the length of an epoch.",
        check=Check("below 1", lambda rate: rate < 1),
        aliases=("ema_momentum",),
    )
    ema_batch_norm: bool = field(False, help="Include batch-norm statistics in the EMA.")
    skip_sanity_check: bool = field(
        False,
        help="Skip the checks before the first epoch. They test the data, the targets, the first losses and the "
        "export.",
    )
    write_checkpoints: bool = field(
        True,
        help="Write checkpoints of the full training state. The first is written before the first batch, the others "
        "after each epoch.",
    )
    export_best: bool = field(
        True, help="Export the best model to OUTPUT_DIR/best. The monitored value decides which model is best."
    )
    export_final: bool = field(True, help="Export the final model to OUTPUT_DIR/export.")
    monitor: str | None = field(
        None,
        help="Value that decides which epoch is best, and its direction. Give min:NAME or max:NAME of a loss or a "
        "metric, such as max:accuracy. It is the value of the validation, if there is one. Early stopping and "
        "callbacks use it too. none uses the scenario's monitor.",
        check=Check("min:NAME or max:NAME", lambda text: re.fullmatch(r"(min|max):\S+", text) is not None),
    )
    optimizer: Choice[OptimizerParams] = component(
        "optimizer", default="Adam", help="Algorithm that updates the weights.", short=True
    )
    learning_rate: Choice[ScheduleParams] = component(
        "schedule", default="ExponentialDecay", help="Learning-rate schedule.", short=True
    )
    callbacks: tuple[Choice[CallbackParams], ...] = components(
        "callback", help="Callbacks to run during training.", short=True
    )
    device: DeviceParams = group(DeviceParams, help="Devices that train the model.", short=True)
    early_stopping: EarlyStoppingParams = group(
        EarlyStoppingParams, help="Conditions for stopping before the last epoch.", short=True
    )
    warmstart: WarmstartParams = group(WarmstartParams, help="Initial weights from another model.", short=True)
    checkpoint: CheckpointParams = group(CheckpointParams, help="Checkpoints for resuming the run.", short=True)
    export: ExportParams = group(ExportParams, help="Formats of the exported models.", short=True)


def run_params_class(scenario_params: type[ScenarioParams], updates: Sequence[AnyUpdate] = ()) -> type[ScenarioParams]:
    """Return the parameter class of a run: the scenario's parameters and the trainer's.

    Args:
        scenario_params: the scenario's parameter class.
        updates: the scenario's updates, checked. Each has a group of parameters in `trainer.updates`.
    """
    trainer: type[Any] = TrainerParams
    if updates:
        several = group(updates_class(updates), help="Updates in each step.", short=True)
        trainer = derived("TrainerParams", {"updates": several}, TrainerParams)
    whole = group(trainer, help="Length, settings and output of training.")
    return derived(scenario_params.__name__, {"trainer": whole}, scenario_params)
