"""The scenario of text line recognition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import attrs
from aip_plugins.scenarios.text_line_recognition.codec import Codec, alphabet_of, read_codec
from aip_plugins.scenarios.text_line_recognition.params import TextLineParams
from aip_plugins.scenarios.text_line_recognition.printing import PrintedLines

from aipcore.errors import DataError
from aipcore.scenario import Evaluator, ListFileScenario, Sample

TEXT_SUFFIX = ".gt.txt"


class TextLineRecognition(ListFileScenario):
    """Reads lines of text; without lists it learns from lines that it prints itself."""

    params_class = TextLineParams
    params: TextLineParams
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.epochs": 12,
        "train.bucket_window": 8,
        "learning_rate.lr": 0.004,
        "optimizer.clip_global_norm": 5.0,
    }
    monitor = ("min", "character_error_rate")
    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

    def check(self) -> None:
        """Also reads the codec."""
        super().check()
        if self.params.data.codec is not None:
            read_codec(self.params.data.codec)

    def derived_params(self) -> TextLineParams:
        """The alphabet, which the training texts have if no codec gives it."""
        data = self.params.data
        if data.alphabet:
            return self.params
        alphabet = read_codec(data.codec) if data.codec is not None else alphabet_of(self._texts())
        return attrs.evolve(self.params, data=attrs.evolve(data, alphabet=alphabet))

    def _texts(self) -> list[str]:
        own = self.own_train_data()
        if not self.params.train.lists and own is not None:
            return own.texts()
        return [_text(path) for path in self.paths(self.params.train.lists, "train")]

    @cached_property
    def codec(self) -> Codec:
        """The characters of the model."""
        return Codec(self.params.data.alphabet)

    def own_train_data(self) -> PrintedLines:
        """Printed lines."""
        return PrintedLines(self.params.data.printed_lines, self.params.data.printed_seed)

    def own_val_data(self) -> PrintedLines:
        """A tenth as many other ones."""
        return PrintedLines(max(1, self.params.data.printed_lines // 10), self.params.data.printed_seed + 1_000_000)

    def read(self, path: Path, *, targets: bool) -> Sample:
        """An image in shades of grey, and the text beside it."""
        from aip_plugins.scenarios.image_file import read_image

        pixels = read_image(path, "L")
        text = _text(path) if targets else None
        return Sample(inputs=pixels, targets=text, meta={"path": str(path)})

    def processors(self) -> Sequence[Any]:
        """Scale, distort in training, and normalise the image; encode the text."""
        from aip_plugins.scenarios.text_line_recognition.processors import Distort, Encode, Normalize, ScaleToHeight

        distort = [Distort()] if self.params.data.augment else []
        return [
            ScaleToHeight(self.params.data.height),
            *distort,
            Normalize(),
            Encode(self.codec, 2 ** len(self.params.model.filters)),
        ]

    def post_processors(self) -> Sequence[Any]:
        """Decode the logits."""
        from aip_plugins.scenarios.text_line_recognition.processors import Decode

        return [Decode(self.codec)]

    def build(self, inputs: Any) -> Any:
        """Images and widths to logits of shape [batch, steps, characters + 1]."""
        from aip_plugins.scenarios.text_line_recognition.network import logits

        return {"text": logits(inputs["image"], inputs["width"], self.params.model, self.codec.classes)}

    def loss_values(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """CTC (Graves et al., 2006): minus the log probability of all paths that spell the text."""
        from keras import ops

        del inputs
        text, logits = targets["text"], outputs["text"]
        lengths = ops.sum(ops.cast(text > 0, "int32"), axis=-1)
        steps = ops.broadcast_to(ops.shape(logits)[1], ops.shape(lengths))
        return {"ctc": ops.ctc_loss(text, logits, lengths, steps, mask_index=0)}

    def metrics(self) -> Any:
        """The rate of wrong characters."""
        from aip_plugins.scenarios.text_line_recognition.metrics import CharacterErrorRate

        return [CharacterErrorRate()]

    def evaluator(self) -> Evaluator:
        """Error rates and the worst lines."""
        from aip_plugins.scenarios.text_line_recognition.metrics import ReadingEvaluator

        return ReadingEvaluator(self.codec)

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
        """Both texts."""
        return self.codec.decode(targets["text"].tolist()), str(outputs["text"])


def _text(image: Path) -> str:
    path = image.with_name(image.name.removesuffix(image.suffix) + TEXT_SUFFIX)
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise DataError(
            f"The text {path} of the image {image.name} cannot be read ({error.strerror}): write it, or leave out the "
            "image."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"The text {path} is no UTF-8: save it as such.") from error
