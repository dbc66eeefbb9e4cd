"""Parameters of training. This module does not import TensorFlow, so that `--help` stays fast."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

from aipcore.distributed.params import DeviceParams
from aipcore.hooks.records import CallbackParams, ExporterParams, OptimizerParams, ScheduleParams
from aipcore.params import Check, Choice, above, at_least, component, components, field, group, params, positions, regex
from aipcore.scenario.params import ScenarioParams
from aipcore.training.warmstart.params import WarmstartParams

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""Keras' dtype policy for each `trainer.precision`: layers compute in it and keep their weights in float32."""


@params
class CheckpointParams:
    """Checkpoints for resuming a run."""

    keep: int = field(2, help="Newest complete checkpoints to keep.", check=at_least(1))
    every_steps: int | None = field(
        None,
        help="Batches after which to write one within an epoch, at the end of a chunk; none: only between epochs.",
        check=at_least(1),
    )
    every_minutes: float | None = field(
        None,
        help="Minutes after which to write one within an epoch, at the end of a chunk; none: only between epochs.",
        check=above(0),
    )
    on_error: Literal["raise", "warn"] = field(
        "raise",
        help="When a checkpoint, a model or the event files cannot be written: raise ends the run with an error, warn "
        "says so and trains on. What was written before stays as it is.",
    )


@params
class ExportParams:
    """Export of the best and the final model."""

    formats: tuple[Choice[ExporterParams], ...] = components(
        "exporter",
        default=("SavedModel",),
        help="Formats of best and export, by exporter plugin; SavedModel is always written.",
    )


@params
class EarlyStoppingParams:
    """Conditions for stopping before the last epoch. The scenario defines the monitored value."""

    n_to_go: int | None = field(
        None,
        help="Stop after this many epochs without improvement; none: never.",
        check=at_least(1),
        aliases=("patience",),
    )
    frequency: int = field(
        1,
        help="Look at n_to_go only every so many epochs; the threshold that stops at once counts in every epoch.",
        check=at_least(1),
    )
    lower_threshold: float | None = field(
        None,
        help="If more is better: do not stop for lack of improvement before this is reached. "
        "If less is better: stop at once when it is reached.",
    )
    upper_threshold: float | None = field(
        None,
        help="If more is better: stop at once when this is reached. "
        "If less is better: do not stop for lack of improvement before it is reached.",
    )


@params
class TrainerParams:
    """Length, settings and output of training."""

    output_dir: Path | None = field(
        None, help="Folder for all that the run leaves; by default a fresh runs/SCENARIO-N."
    )
    epochs: int = field(100, help="Epochs to train.", check=at_least(1))
    samples_per_epoch: int = field(
        -1,
        help="Training samples in one epoch; -1: all of the data set.",
        check=Check("-1 or at least 1", lambda samples: samples == -1 or samples >= 1),
    )
    scale_epoch_size: float = field(1.0, help="Factor on the number of samples in one epoch.", check=above(0))
    accumulate_steps: int = field(
        1,
        help="Batches whose gradients are summed for one optimizer update.",
        check=at_least(1),
        aliases=("gradient_accumulation_steps",),
    )
    input_gradient_penalty: float = field(
        0.0,
        help="Factor on the mean squared norm of the gradient of a sample's loss with respect to its inputs, which is "
        "added to the loss; 0: none.",
        check=at_least(0),
    )
    random_seed: int | None = field(
        None,
        help="Seed of weights, data order and dropout; by default drawn at random and recorded.",
        check=at_least(0),
        aliases=("seed",),
    )
    deterministic: bool = field(
        False,
        help="Use only operations that give the same bits each time, on GPUs too, where that is slower; an operation "
        "without such a variant is an error.",
    )
    grace_seconds: float = field(
        30.0,
        help="Seconds after SIGINT or SIGTERM in which to finish the chunk and save; then the process ends at once.",
        check=above(0),
    )
    force_eager: bool = field(
        False, help="Run step by step without compiling, to debug a model; slow.", aliases=("run_eagerly",)
    )
    jit_compile: Literal["auto", "on", "off"] = field(
        "auto", help="Compile the training loop with XLA; auto measures both ways when the run is long enough to pay."
    )
    tune: Literal["auto", "off"] = field(
        "auto",
        help="auto measures before the first batch what is fastest: XLA or not, and how many batches make a call. off "
        "measures nothing: no XLA unless jit_compile is on, and 16 batches a call or as many as 16 MiB hold.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = field(
        "float32",
        help="Number format of activations and gradients; weights stay float32. float16 scales the loss as needed.",
    )
    val_every_n: int = field(
        1,
        help="Epochs between validations; the last epoch is always validated.",
        check=at_least(1),
        aliases=("validation_freq",),
    )
    lav_every_n: int = field(
        0,
        help="Epochs between runs of the prediction graph and the evaluator on the validation data; 0: never. "
        "If on, the first and the last epoch always run, but none before lav_min_epoch.",
        check=at_least(0),
    )
    lav_min_epoch: int = field(
        1,
        help="No LAV before the end of this epoch, counted from 1: above 1, the first epoch has none either.",
        check=at_least(1),
    )
    summaries_every_n: int = field(
        10,
        help="Epochs between the images, histograms and PR curves that the scenario shows in TensorBoard, if it has "
        "any; 0: never. If on, the first and the last epoch always have them.",
        check=at_least(0),
    )
    profile: bool = field(False, help="Trace some batches for TensorBoard's profile plugin.")
    profile_steps: tuple[int, int] = field(
        (10, 20), help="The first and the last batch to trace, counted over the run from 1.", check=positions()
    )
    no_train_scope: str | None = field(
        None,
        help="Freeze the layers whose path matches this regular expression, with all layers inside them.",
        check=regex(),
        aliases=("freeze",),
    )
    calc_ema: float = field(
        0.0,
        help="Rate of a moving average of the weights, with which the model is validated and exported; 0: none, "
        "negative: computed from the length of an epoch.",
        check=Check("below 1", lambda rate: rate < 1),
        aliases=("ema_momentum",),
    )
    ema_batch_norm: bool = field(False, help="Average the statistics of batch normalisation too.")
    skip_sanity_check: bool = field(
        False, help="Do not look at data, targets, first losses and the export before the first epoch."
    )
    write_checkpoints: bool = field(
        True, help="Write a checkpoint of the full state before the first batch and after each epoch."
    )
    export_best: bool = field(True, help="Keep the model with the best monitored value in OUTPUT_DIR/best.")
    export_final: bool = field(True, help="Write the final model to OUTPUT_DIR/export.")
    optimizer: Choice[OptimizerParams] = component("optimizer", default="Adam", help="The optimizer.", short=True)
    learning_rate: Choice[ScheduleParams] = component(
        "schedule", default="ExponentialDecay", help="The learning-rate schedule.", short=True
    )
    callbacks: tuple[Choice[CallbackParams], ...] = components(
        "callback", help="Callbacks to run during training.", short=True
    )
    device: DeviceParams = group(DeviceParams, help="What computes.", short=True)
    early_stopping: EarlyStoppingParams = group(
        EarlyStoppingParams, help="When to stop before the last epoch.", short=True
    )
    warmstart: WarmstartParams = group(WarmstartParams, help="Weights to begin with.", short=True)
    checkpoint: CheckpointParams = group(CheckpointParams, help="What is kept for resuming.", short=True)
    export: ExportParams = group(ExportParams, help="What a finished model is written as.", short=True)


def run_params_class(scenario_params: type[ScenarioParams]) -> type[ScenarioParams]:
    """Return the parameter class of a run: the scenario's parameters and the trainer's."""
    return attrs.make_class(
        scenario_params.__name__,
        {"trainer": group(TrainerParams, help="How long, how, and to where the model is trained.")},
        bases=(scenario_params,),
        frozen=True,
        kw_only=True,
        slots=False,
    )
