"""Parameters of the callbacks that show the internals of a run."""

from __future__ import annotations

from aip_plugins.callbacks.remote_params import require

from aipcore.hooks.records import CallbackParams
from aipcore.params import at_least, between, field, params, regex


@params
class WeightHistogramsParams(CallbackParams):
    """Histograms of the weights of each layer in TensorBoard, in the run `train`."""

    every_n_epochs: int = field(
        1, help="Epochs between two histograms. The first and last epochs always have one.", check=at_least(1)
    )
    include: str = field(
        "", help="Regular expression for paths of the weights to show. An empty one shows all.", check=regex()
    )


@params
class LearningRateMonitorParams(CallbackParams):
    """The learning rate of each optimizer update, for TensorBoard in the run `updates`."""

    every_n_updates: int = field(1, help="Updates between two recorded learning rates.", check=at_least(1))
    tensorboard: bool = field(True, help="Write TensorBoard event files.")
    csv: bool = field(False, help="Write learning_rate.csv in the output folder.")


@params
class SampleImagesParams(CallbackParams):
    """Validation images in TensorBoard, each above its target and the model's prediction."""

    every_n_epochs: int = field(
        5, help="Epochs between two pictures. The first and last epochs always have one.", check=at_least(1)
    )
    count: int = field(
        16, help="Number of samples. They are evenly spaced over the validation data.", check=between(1, 64)
    )
    input: str | None = field(
        None, help="Name of the image input. none uses the only input with the shape of an image."
    )
    transpose: bool = field(False, help="Swap the first two axes of the image. Use it for inputs with the width first.")
    invert: bool = field(False, help="Swap black and white.")


@params
class GradientNormParams(CallbackParams):
    """The global L2 norm of the gradients of all weights after each epoch, before clipping, on fixed batches."""

    batches: int = field(
        4, help="Number of fixed training batches. Their mean and maximum are shown.", check=between(1, 1000)
    )
    every_n_epochs: int = field(
        1, help="Epochs between two measurements. The first and last epochs always have one.", check=at_least(1)
    )


@params
class HParamsParams(CallbackParams):
    """The parameters and the best value of the run, for the HPARAMS tab of TensorBoard, which compares several runs."""

    include: str = field(
        "", help="Regular expression for the names of parameters to show. An empty one shows all.", check=regex()
    )


@params
class SystemMetricsParams(CallbackParams):
    """Use of CPU, memory and GPUs in each epoch, in TensorBoard, in the run `system`."""

    def check(self) -> None:
        """Check that the package is installed.

        Raises:
            UsageError: it is not.
        """
        require("SystemMetrics", "psutil", "system")
