"""Processors that an author writes: of samples before the model and of outputs after it."""

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
    """What data is processed for; a processor says for which modes it works.

    Attributes:
        TRAINING: to learn from. Random processors draw anew on each visit of a sample.
        EVALUATION: to compare outputs with targets: validation, LAV. Random processors, if any, draw once and for all.
        PREDICTION: only inputs are there.
        TARGETS: only targets are there, to be compared with stored outputs.
    """

    TRAINING = "training"
    EVALUATION = "evaluation"
    PREDICTION = "prediction"
    TARGETS = "targets"


ALL_MODES = frozenset(Mode)


class _Named:
    """What all processors have.

    Attributes:
        modes: for what the processor is used; the class says it, or `self.modes` in a constructor.
    """

    modes: Collection[Mode] = ALL_MODES

    @property
    def name(self) -> str:
        """How errors and messages call it."""
        return type(self).__name__


class Processor(_Named):
    """Changes each sample, always in the same way, so that its result may be kept for all epochs."""

    def process(self, sample: Sample) -> Sample:
        """The sample to go on with, usually `attrs.evolve(sample, ...)`.

        Arrays of the sample may be shared with later epochs: make new ones instead of writing into them.
        """
        raise _missing(self, "process(sample)")


class RandomProcessor(_Named):
    """Changes each sample at random, in training differently on each visit: augmentation."""

    modes: Collection[Mode] = frozenset({Mode.TRAINING})

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample to go on with.

        Args:
            sample: as for `Processor.process`.
            rng: the only source of randomness to use, and only within this call. It is seeded by the run's seed, the
                number of earlier visits of this sample, its index and the position of this processor, so that results
                depend neither on the order of visits nor on the number of worker processes.
        """
        raise _missing(self, "process(sample, rng)")


class RandomBatchProcessor(_Named):
    """As `RandomProcessor`, but changes many samples at once, as arrays: a fraction of the time where these are small.

    Each sample must come out as it would alone, to the last bit, which is tried on the first ones. If no other kind of
    processor follows the first random one, and samples have one shape, whole blocks come here; otherwise each sample
    comes as a batch of its own.
    """

    modes: Collection[Mode] = frozenset({Mode.TRAINING})

    def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
        """The samples to go on with, as many as there are, usually `attrs.evolve(batch, ...)`.

        Args:
            batch: arrays of shape [n, ...]; make new ones instead of writing into them.
            random: the only source of randomness to use, with a row for each sample, seeded as for `RandomProcessor`.
        """
        raise _missing(self, "process(batch, random)")


class GeneratingProcessor(_Named):
    """Makes one sample into many or none: cuts pages into lines, repeats, or leaves samples out.

    The number of samples must be known before the first epoch, so it must be the same on each call, and no random
    processor may stand before a generating one. To augment each sample several times, repeat it here and let a random
    processor follow: every copy counts as a sample of its own.
    """

    def generate(self, sample: Sample) -> Iterable[Sample]:
        """The samples to go on with instead of `sample`, always the same ones in the same order."""
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
        """Calls the function."""
        return self.function(sample)


class PostProcessor(_Named):
    """Changes what the model answered for one sample, such as decoding class numbers into text."""

    modes: Collection[Mode] = frozenset({Mode.PREDICTION, Mode.EVALUATION})

    def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
        """The outputs to go on with.

        Args:
            outputs: by name, arrays of one sample, without a batch axis, or what an earlier post-processor made of
                them. The name of a bare output is "".
            meta: the sample's `Sample.meta`: what is needed here, such as the length before padding, belongs there.
        """
        raise _missing(self, "process(outputs, meta)")


AnyProcessor = Processor | RandomProcessor | RandomBatchProcessor | GeneratingProcessor


_OTHER = "Extend GeneratingProcessor for generate(sample), another class of processors for process(...)."
_WAYS = dict.fromkeys(("apply", "augment", "call", "map", "preprocess", "run", "transform"), "Do it in process(...).")


def as_processors(given: Iterable[Any], origin: str) -> list[AnyProcessor]:
    """Makes a list of processors from what an author gave: objects of the classes here, or functions.

    Raises:
        ScenarioError: something is neither.
    """
    if not isinstance(given, Iterable):
        raise ScenarioError(f"The processors of {origin} are {type(given).__name__}. Return a list from processors().")
    processors: list[AnyProcessor] = []
    for each in given:
        if isinstance(each, AnyProcessor):
            check_author_class(type(each), {**_WAYS, "generate": _OTHER, "process": _OTHER})
            processors.append(each)
        elif callable(each) and not isinstance(each, type):
            processors.append(FunctionProcessor(each))
        else:
            shown = f"the class {each.__name__}" if isinstance(each, type) else type(each).__name__
            raise ScenarioError(
                f"{origin} has {shown} as a processor: give objects of Processor, RandomProcessor, "
                "RandomBatchProcessor or GeneratingProcessor, or functions from Sample to Sample."
            )
    return processors


def as_post_processors(given: Iterable[Any], origin: str) -> list[PostProcessor]:
    """Makes a list of post-processors from what an author gave.

    Raises:
        ScenarioError: something is none.
    """
    if not isinstance(given, Iterable):
        raise ScenarioError(f"{origin} returned {type(given).__name__}. Return a list of PostProcessor objects.")
    processors = list(given)
    for each in processors:
        if not isinstance(each, PostProcessor):
            shown = f"the class {each.__name__}" if isinstance(each, type) else type(each).__name__
            raise ScenarioError(f"{origin} has {shown} as a post-processor. Give objects of PostProcessor.")
        check_author_class(type(each), _WAYS)
    return processors


def post_process(
    processors: Sequence[PostProcessor], outputs: dict[str, Any], meta: Any, *, mode: Mode = Mode.PREDICTION
) -> dict[str, Any]:
    """Applies the post-processors of a mode, one after the other, to the outputs of one sample.

    Raises:
        ScenarioError: one fails, or returns something that is no mapping; names it.
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
            raise ScenarioError(f"Post-processor {processor.name} returned {type(made).__name__}: return a dict.")
        outputs = made
    return outputs


def _missing(processor: _Named, what: str) -> ScenarioError:
    return ScenarioError(f"{processor.name} does not define {what}.")
