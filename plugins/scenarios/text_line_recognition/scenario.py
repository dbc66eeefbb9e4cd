"""The scenario of text line recognition."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import attrs
from aip_plugins.scenarios.text_line_recognition.codec import Codec, alphabet_of, read_codec
from aip_plugins.scenarios.text_line_recognition.params import TextLineParams
from aip_plugins.scenarios.text_line_recognition.printing import PrintedLines

from aipcore.errors import DataError
from aipcore.scenario import Evaluator, ListFileScenario, Sample, ctc_loss

TEXT_SUFFIX = ".gt.txt"
LONGEST_TEXT = 100_000
"""The most characters of a text, far more than a line has."""

logger = logging.getLogger("aipcore.scenarios")


class TextLineRecognition(ListFileScenario):
    """Recognizes lines of text in images. Without lists, it trains on rendered lines."""

    params_class = TextLineParams
    params: TextLineParams
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.epochs": 12,
        "train.bucket_window": 16,
        "learning_rate.lr": 0.004,
        "optimizer.clip_global_norm": 5.0,
    }
    monitor = ("min", "character_error_rate")
    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

    def check(self) -> None:
        """Check the parameters and read the codec."""
        super().check()
        if self.params.data.codec is not None:
            read_codec(self.params.data.codec)

    def derived_params(self) -> TextLineParams:
        """Return the parameters with the alphabet, by default that of the training texts."""
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
        """The alphabet of the model."""
        return Codec(self.params.data.alphabet)

    def own_train_data(self) -> PrintedLines:
        """Return printed lines."""
        return PrintedLines(self.params.data.printed_lines, self.params.data.printed_seed)

    def own_val_data(self) -> PrintedLines:
        """Return other printed lines, a tenth as many."""
        return PrintedLines(max(1, self.params.data.printed_lines // 10), self.params.data.printed_seed + 1_000_000)

    def val_data(self) -> Any:
        """Return the validation lines, with a warning about characters outside the alphabet."""
        return self._noted(super().val_data(), "validation lines")

    def lav_data(self) -> Mapping[str, Any] | None:
        """Return the lines of each list, with warnings about characters outside the alphabet."""
        lists = super().lav_data()
        return lists and {name: self._noted(data, f"lines of {name}") for name, data in lists.items()}

    def predict_data(self) -> Any:
        """Return the images of `data.files` or of the validation data, without reading their texts."""
        return super().predict_data() if self.params.data.files else super().val_data()

    def _noted(self, data: Any, what: str) -> Any:
        if data is not None:
            texts = data.texts() if isinstance(data, PrintedLines) else [_text(path) for path in data.paths]
            lacking = [text for text in texts if not set(text) <= set(self.codec.alphabet)]
            if lacking:
                characters = sorted(set("".join(lacking)) - set(self.codec.alphabet))
                shown = " ".join(map(repr, characters[:10])) + (" ..." if len(characters) > 10 else "")
                logger.warning(
                    "%d of %d %s have characters that are not in the alphabet: %s. Each of them counts as an error of "
                    "the model. The loss ignores them.",
                    len(lacking), len(texts), what, shown,
                )  # fmt: skip
        return data

    def read(self, path: Path, *, targets: bool) -> Sample:
        """Return a grayscale image, and the text beside it."""
        from aip_plugins.scenarios.image_file import read_image

        pixels = read_image(path, "L")
        text = _text(path) if targets else None
        return Sample(inputs=pixels, targets=text, meta={"path": str(path)})

    def processors(self) -> Sequence[Any]:
        """Return the processors: scale, distort in training, and normalize the image; encode the text."""
        from aip_plugins.scenarios.text_line_recognition.processors import (
            Distort,
            Encode,
            Normalize,
            RefuseUnknown,
            ScaleToHeight,
        )

        distort = [Distort()] if self.params.data.augment else []
        return [
            ScaleToHeight(self.params.data.height),
            *distort,
            Normalize(),
            RefuseUnknown(self.codec),
            Encode(self.codec, 2 ** len(self.params.model.filters)),
        ]

    def post_processors(self) -> Sequence[Any]:
        """Return the post-processor that decodes the logits."""
        from aip_plugins.scenarios.text_line_recognition.processors import Decode

        return [Decode(self.codec)]

    def build(self, inputs: Any) -> Any:
        """Return logits of shape [batch, steps, characters + 1] for images and widths."""
        from aip_plugins.scenarios.text_line_recognition.network import logits

        return {"text": logits(inputs["image"], inputs["width"], self.params.model, self.codec.classes)}

    def loss_values(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the CTC loss (Graves et al., 2006): minus the log probability of all paths that spell the text.

        Characters outside the alphabet are removed from the text, since no path can spell them.
        """
        from keras import ops

        del inputs
        text, logits = targets["text"], outputs["text"]
        known = (text > 0) & (text < self.codec.classes)
        places = ops.cumsum(ops.cast(known, "int32"), axis=-1) - 1
        moved = known[:, :, None] & (places[:, :, None] == ops.arange(ops.shape(text)[1], dtype="int32"))
        text = ops.sum(ops.where(moved, text[:, :, None], 0), axis=1)
        lengths = ops.sum(ops.cast(known, "int32"), axis=-1)
        steps = ops.broadcast_to(ops.shape(logits)[1], ops.shape(lengths))
        return {"ctc": ctc_loss(text, logits, lengths, steps)}

    def metrics(self) -> Any:
        """Return the character error rate."""
        from aip_plugins.scenarios.text_line_recognition.metrics import CharacterErrorRate

        return [CharacterErrorRate()]

    def evaluator(self) -> Evaluator:
        """Return the evaluator for error rates and the worst lines."""
        from aip_plugins.scenarios.text_line_recognition.metrics import ReadingEvaluator

        return ReadingEvaluator(self.codec)

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
        """Return both texts."""
        return self.codec.decode(targets["text"].tolist()), str(outputs["text"])


def _text_path(image: Path) -> Path:
    """Return the text file of an image; its name is the image's name without one or more of its extensions."""
    stem = image.stem
    while stem:
        path = image.with_name(stem + TEXT_SUFFIX)
        if path.is_file():
            return path
        stem = stem.rpartition(".")[0]
    return image.with_name(image.stem + TEXT_SUFFIX)


def _text(image: Path) -> str:
    path = _text_path(image)
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"The text {path} is not a regular file. Write the text of {image.name} to it.")
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST_TEXT + 1)
    except OSError as error:
        raise DataError(
            f"The text {path} of the image {image.name} cannot be read ({error.strerror}). Write it, or leave out the "
            "image."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"The text {path} is not UTF-8. Save it as UTF-8.") from error
    if len(text) > LONGEST_TEXT:
        raise DataError(f"The text {path} has more than {LONGEST_TEXT:,} characters. Write the text of a single line.")
    return text.rstrip("\r\n")
