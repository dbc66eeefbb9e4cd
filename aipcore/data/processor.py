"""Processors, written by authors: of samples before the model and of outputs after it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from aipcore.data.sample import Sample, SampleBatch
from aipcore.errors import ScenarioError, located_sentence
from aipcore.params.author_class import check_author_class

if TYPE_CHECKING:
    import numpy as np

    from aipcore.data.random import BatchRandom


class Mode(Enum):
    """The purpose for which data is processed. A processor runs only in its own modes.

    Attributes:
        TRAINING: training samples. Random processors draw new numbers on each visit of a sample.
        EVALUATION: inputs and targets, for validation and LAV. Random processors, if any, draw once per sample.
        PREDICTION: inputs only.
        TARGETS: targets only, to be compared with stored outputs.
    """

    TRAINING = "training"
    EVALUATION = "evaluation"
    PREDICTION = "prediction"
    TARGETS = "targets"


ALL_MODES = frozenset(Mode)


class _Named:
    """The common base of all processors.

    Attributes:
        modes: the modes in which the processor runs, set on the class or as `self.modes` in the constructor.
    """

    modes: Collection[Mode] = ALL_MODES

    @property
    def name(self) -> str:
        """The name in errors and messages."""
        return type(self).__name__


class Processor(_Named):
    """A deterministic change of each sample, whose result may be cached for all epochs."""

    def process(self, sample: Sample) -> Sample:
        """Return the processed sample, usually `attrs.evolve(sample, ...)`.

        Later epochs may share the arrays of the sample: make new arrays instead of modifying them.
        """
        raise _missing(self, "process(sample)")


class RandomProcessor(_Named):
    """A random change of each sample, in training different on each visit: augmentation.

    Attributes:
        partners: the number of further samples passed to `process`, as in mixup: 0 or more, in training only. Each is
            another sample of the data, drawn with the first numbers of `rng`, on the same visit, after the processors
            before this one. Set it on the class or in the constructor.
        modes: the modes in which the processor runs; by default only training.
    """

    modes: Collection[Mode] = frozenset({Mode.TRAINING})
    partners: int = 0

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the processed sample. With partners, the method is `process(self, sample, rng, *partners)`.

        Args:
            sample: as for `Processor.process`.
            rng: the only source of randomness to use, and only within this call. It is seeded by the run's seed, the
                number of earlier visits of this sample, its index and the position of this processor. Results therefore
                depend neither on the order of visits nor on the number of worker processes.
        """
        raise _missing(self, "process(sample, rng)")


class RandomBatchProcessor(_Named):
    """A `RandomProcessor` of many samples as stacked arrays, which is much faster for small samples.

    Each sample must be bit-identical to its result when processed alone. This is checked on the first samples. Whole
    blocks are processed if only batch processors follow the first random processor and all samples have one shape.
    Otherwise each sample is a batch of one.

    Attributes:
        partners: as for `RandomProcessor`. Each partner is a `SampleBatch`, with one row per sample of the batch.
        modes: the modes in which the processor runs; by default only training.
    """

    modes: Collection[Mode] = frozenset({Mode.TRAINING})
    partners: int = 0

    def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
        """Return the processed samples, as many as given, usually `attrs.evolve(batch, ...)`.

        With partners, the method is `process(self, batch, random, *partners)`.

        Args:
            batch: arrays of shape [n, ...]; make new arrays instead of modifying them.
            random: the only source of randomness to use, with one row per sample, seeded as for `RandomProcessor`.
        """
        raise _missing(self, "process(batch, random)")


class GeneratingProcessor(_Named):
    """A processor that makes any number of samples from one: cuts pages into lines, repeats or drops samples.

    The number of samples must be known before the first epoch. It must therefore be the same on each call, and no
    random processor may precede a generating one. To augment each sample several times, repeat it here and add a
    random processor after this one: each copy is a separate sample.
    """

    def generate(self, sample: Sample) -> Iterable[Sample]:
        """Return the samples that replace `sample`, always the same ones in the same order."""
        raise _missing(self, "generate(sample)")


class FunctionProcessor(Processor):
    """A plain function as a processor of all modes."""

    def __init__(self, function: Callable[[Sample], Sample]) -> None:
        self.function = function

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def process(self, sample: Sample) -> Sample:
        """Call the function."""
        return self.function(sample)


class PostProcessor(_Named):
    """A change of the model's outputs for one sample, such as decoding class indices into text.

    Attributes:
        modes: the modes in which the post-processor runs; by default prediction and evaluation.
    """

    modes: Collection[Mode] = frozenset({Mode.PREDICTION, Mode.EVALUATION})

    def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
        """Return the post-processed outputs.

        Args:
            outputs: by name, arrays of one sample without a batch axis, or the results of an earlier post-processor.
                The name of a bare output is "".
            meta: the sample's `Sample.meta`. Put other values needed here into it, such as an unpadded length.
        """
        raise _missing(self, "process(outputs, meta)")


AnyProcessor = Processor | RandomProcessor | RandomBatchProcessor | GeneratingProcessor


_OTHER = "Extend GeneratingProcessor to define generate(sample), another processor class to define process(...)."
_PARTNERS = "Extend RandomProcessor or RandomBatchProcessor to draw partners."
_WAYS = dict.fromkeys(("apply", "augment", "call", "map", "preprocess", "run", "transform"), "Do it in process(...).")


def as_processors(given: Iterable[Any], origin: str) -> list[AnyProcessor]:
    """Return an author's processors as a list: objects of the classes of this module, or functions.

    Raises:
        ScenarioError: an entry is neither a processor nor a function.
    """
    if not isinstance(given, Iterable):
        raise ScenarioError(f"The processors of {origin} are {type(given).__name__}. Return a list from processors().")
    processors: list[AnyProcessor] = []
    for each in given:
        if isinstance(each, AnyProcessor):
            further = {"process": ["*partners"] * _partners(each)}
            check_author_class(
                type(each), {**_WAYS, "generate": _OTHER, "process": _OTHER, "partners": _PARTNERS}, further
            )
            processors.append(each)
        elif callable(each) and not isinstance(each, type):
            processors.append(FunctionProcessor(each))
        else:
            shown = f"the class {each.__name__}" if isinstance(each, type) else type(each).__name__
            raise ScenarioError(
                f"{origin} has {shown} as a processor. Use objects of Processor, RandomProcessor, "
                "RandomBatchProcessor or GeneratingProcessor, or functions from Sample to Sample."
            )
    return processors


def as_post_processors(given: Iterable[Any], origin: str) -> list[PostProcessor]:
    """Return an author's post-processors as a list.

    Raises:
        ScenarioError: an entry is not a post-processor.
    """
    if not isinstance(given, Iterable):
        raise ScenarioError(f"{origin} returned {type(given).__name__}. Return a list of PostProcessor objects.")
    processors = list(given)
    for each in processors:
        if not isinstance(each, PostProcessor):
            shown = f"the class {each.__name__}" if isinstance(each, type) else type(each).__name__
            raise ScenarioError(f"{origin} has {shown} as a post-processor. Use objects of PostProcessor.")
        check_author_class(type(each), _WAYS)
    return processors


def post_process(
    processors: Sequence[PostProcessor], outputs: dict[str, Any], meta: Any, *, mode: Mode = Mode.PREDICTION
) -> dict[str, Any]:
    """Apply the post-processors of a mode in order to the outputs of one sample.

    Raises:
        ScenarioError: a post-processor fails, or does not return a mapping.
    """
    for processor in processors:
        if mode not in processor.modes:
            continue
        try:
            made = processor.process(outputs, meta)
        except Exception as error:
            raise ScenarioError(
                f"Post-processor {processor.name} failed on the outputs of a sample with meta {meta!r}: "
                f"{located_sentence(error)}."
            ) from error
        if not isinstance(made, dict):
            raise ScenarioError(f"Post-processor {processor.name} returned {type(made).__name__}. Return a dict.")
        outputs = made
    return outputs


def _partners(processor: AnyProcessor) -> int:
    if not isinstance(processor, RandomProcessor | RandomBatchProcessor):
        return 0
    if not isinstance(processor.partners, int) or processor.partners < 0:
        raise ScenarioError(f"{processor.name}.partners is not a number of samples. Set it to 0 or more.")
    return processor.partners


def _missing(processor: _Named, what: str) -> ScenarioError:
    return ScenarioError(f"{processor.name} does not define {what}. Define it.")
