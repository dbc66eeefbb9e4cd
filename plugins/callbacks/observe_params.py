"""Parameters of the callbacks that show the internals of a run."""

from __future__ import annotations

from aipcore.hooks.records import CallbackParams
from aipcore.params import at_least, between, field, params, regex


@params
class WeightHistogramsParams(CallbackParams):
    """Histograms of the weights of each layer in TensorBoard, in the run `train`."""

    every_n_epochs: int = field(
        1, help="Epochs between two histograms; the first and the last have them.", check=at_least(1)
    )
    include: str = field("", help="Only weights whose path matches this regular expression.", check=regex())


@params
class LearningRateMonitorParams(CallbackParams):
    """The learning rate of each optimizer update, for TensorBoard in the run `updates`."""

    every_n_updates: int = field(1, help="Record only every so many updates.", check=at_least(1))
    tensorboard: bool = field(True, help="Write event files.")
    csv: bool = field(False, help="Write learning_rate.csv in the output folder.")


@params
class SampleImagesParams(CallbackParams):
    """Validation images in TensorBoard, each above its target and the model's prediction."""

    every_n_epochs: int = field(
        5, help="Epochs between two pictures; the first and the last have one.", check=at_least(1)
    )
    count: int = field(16, help="How many samples, evenly spaced over the validation data.", check=between(1, 64))
    input: str | None = field(None, help="The input that is the image; none: the only one that has an image's shape.")
    transpose: bool = field(False, help="Swap the first two axes of the image, for inputs with the width first.")
    invert: bool = field(False, help="Swap black and white.")


@params
class GradientNormParams(CallbackParams):
    """The global L2 norm of the gradients of all weights after each epoch, before clipping, on fixed batches."""

    batches: int = field(
        4, help="Fixed batches of the training data; their mean and maximum are shown.", check=between(1, 1000)
    )
    every_n_epochs: int = field(
        1, help="Epochs between two measurements; the first and the last have one.", check=at_least(1)
    )
