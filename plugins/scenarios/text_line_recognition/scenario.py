"""The scenario of text line recognition."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import attrs
from aip_plugins.scenarios.text_line_recognition.codec import Codec, Reading, alphabet_of, read_codec
from aip_plugins.scenarios.text_line_recognition.params import TextLineParams
from aip_plugins.scenarios.text_line_recognition.printing import PrintedLines

from aipcore.errors import DataError, ParamsError
from aipcore.scenario import Evaluator, ListFileScenario, Sample, adapted_classes, ctc_loss

TEXT_SUFFIX = ".gt.txt"
OUTPUT_WEIGHTS = ("characters/kernel", "characters/bias")
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
        "val.bucket_window": 16,
        "learning_rate.lr": 0.004,
        "optimizer.clip_global_norm": 5.0,
    }
    monitor = ("min", "character_error_rate")
    fixed = ("data.alphabet", "data.alphabet_mode", "data.codec")
    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

    def check(self) -> None:
        """Check the parameters and read the codec."""
        super().check()
        alphabet, codec = self.params.data.alphabet, self.params.data.codec
        if twice := [each for each, count in Counter(alphabet).items() if count > 1]:
            raise ParamsError(f"--data.alphabet contains {twice[0]!r} twice. Give each character once.")
        # A run records both if its alphabet is from the codec.
        if codec is not None and (lacking := set(read_codec(codec)) - set(alphabet)) and alphabet:
            raise ParamsError(
                f"--data.alphabet lacks characters of --data.codec {codec}: {_shown(lacking)}. Give only one of them."
            )

    def derived_params(self) -> TextLineParams:
        """Return the parameters with the alphabet, by default that of the training texts."""
        data = self.params.data
        if data.alphabet:
            return self.params
        if data.alphabet_mode in ("keep", "extend") and data.codec is None:
            raise ParamsError(
                f"--data.alphabet_mode {data.alphabet_mode} needs an alphabet. Pass --warmstart.model with a model of "
                "this scenario, or leave the option out."
            )
        return self._with_alphabet(read_codec(data.codec) if data.codec is not None else alphabet_of(self._texts()))

    def _with_alphabet(self, alphabet: str) -> TextLineParams:
        return attrs.evolve(self.params, data=attrs.evolve(self.params.data, alphabet=alphabet))

    def source_alphabet(self, before: Mapping[str, Any] | None) -> str | None:
        """Return the alphabet of the model that a warm start reads, from its recorded parameters; None if unknown."""
        alphabet = None if before is None else before.get("data.alphabet")
        return alphabet if isinstance(alphabet, str) and alphabet else None

    def adapt_params(self, before: Mapping[str, Any] | None) -> TextLineParams:
        """Return the parameters with the alphabet of the warm start's model, if it is kept or extended."""
        data = self.params.data
        given = data.alphabet or (read_codec(data.codec) if data.codec is not None else "")
        mode = data.alphabet_mode or ("replace" if given else "extend")
        known = self.source_alphabet(before)
        if mode == "replace" or (known is None and data.alphabet_mode is None):
            return self.params
        if known is None:
            raise ParamsError(
                f"--data.alphabet_mode {mode} needs the alphabet of {self.params.trainer.warmstart.model}, which has "
                "no record of it. Leave the option out, and give its characters in the order of its outputs with "
                "--data.alphabet or --data.codec."
            )
        if mode == "extend":
            return self._with_alphabet("".join(dict.fromkeys(known + (given or alphabet_of(self._texts())))))
        if given not in ("", known):
            raise ParamsError(
                "--data.alphabet_mode keep uses the alphabet of the warm start's model, which is not the given one. "
                "Leave out --data.alphabet and --data.codec, or choose extend or replace."
            )
        return self._with_alphabet(known)

    def adapt_weights(self, path: str, source: Any, fresh: Any, before: Mapping[str, Any] | None) -> Any:
        """Return the weights of the output layer, in which the blank and known characters keep those of the source."""
        if path not in OUTPUT_WEIGHTS:
            return None
        known, here, is_first = self.source_alphabet(before), self.codec.alphabet, path == OUTPUT_WEIGHTS[0]
        if known is None:
            if is_first:
                logger.warning(
                    "The warm start's model has no record of its alphabet. Its outputs must be a blank, then the "
                    "characters of --data.alphabet in their order."
                )
            return None
        new, unused = set(here) - set(known), set(known) - set(here)
        if is_first and (new or unused):
            logger.info(
                "Characters that are new to the warm start's model: %s. Its characters that are left out: %s.",
                _shown(new), _shown(unused),
            )  # fmt: skip
        return adapted_classes(source, fresh, [None, *known], [None, *here])

    def _texts(self) -> list[str]:
        return self.texts(super().train_data())

    def texts(self, data: Any) -> list[str]:
        """Return the texts of training or validation data, without reading images."""
        return data.texts() if hasattr(data, "texts") else [line_text(path) for path in data.paths]

    @cached_property
    def codec(self) -> Codec:
        """The alphabet of the model."""
        return Codec(self.params.data.alphabet)

    @property
    def reader(self) -> Any:
        """The decoder of the logits: an object with a method `read(logits)` that returns a `Reading`.

        Post-processing and the evaluator use it. The codec reads the most probable path.
        """
        return self.codec

    def own_train_data(self) -> PrintedLines:
        """Return printed lines."""
        return PrintedLines(self.params.data.printed_lines, self.params.data.printed_seed)

    def own_val_data(self) -> PrintedLines:
        """Return other printed lines, a tenth as many."""
        return PrintedLines(max(1, self.params.data.printed_lines // 10), self.params.data.printed_seed + 1_000_000)

    def train_data(self) -> Any:
        """Return the training lines, with a warning about characters outside an alphabet that is kept."""
        data = super().train_data()
        return self._noted(data, "training lines") if self.params.data.alphabet_mode == "keep" else data

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
            texts = self.texts(data)
            lacking = [text for text in texts if not set(text) <= set(self.codec.alphabet)]
            if lacking:
                shown = _shown(set("".join(lacking)) - set(self.codec.alphabet))
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
        text = line_text(path) if targets else None
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

        distort = [Distort(self.stride)] if self.params.data.augment else []
        return [
            ScaleToHeight(self.params.data.height),
            *distort,
            Normalize(),
            *([] if self.params.data.alphabet_mode == "keep" else [RefuseUnknown(self.codec)]),
            Encode(self.codec, self.stride),
        ]

    def post_processors(self) -> Sequence[Any]:
        """Return the post-processor that decodes the logits."""
        from aip_plugins.scenarios.text_line_recognition.processors import Decode

        return [Decode(self.reader)]

    def vote_results(self, answers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the vote of the aligned texts, in which each character counts with its confidence."""
        from aip_plugins.scenarios.text_line_recognition.voting import vote_texts

        names = attrs.fields_dict(Reading)
        return attrs.asdict(vote_texts([Reading(**{name: each[name] for name in names}) for each in answers]))

    def build(self, inputs: Any) -> Any:
        """Return logits of shape [batch, steps, characters + 1] for images and widths."""
        return {"text": self.logits(inputs["image"], inputs["width"])}

    @property
    def stride(self) -> int:
        """Pixels of a line per step of the network."""
        return 2 ** len(self.params.model.filters)

    def logits(self, image: Any, width: Any) -> Any:
        """Return the logits of each step; see `network.logits`. A scenario with another network overrides it."""
        from aip_plugins.scenarios.text_line_recognition.network import logits

        return logits(image, width, self.params.model, self.codec.classes)

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

        return ReadingEvaluator(self.codec, self.reader)

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
        """Return both texts."""
        return self.codec.decode(targets["text"].tolist()), str(outputs["text"])


def _shown(characters: Collection[str]) -> str:
    return (" ".join(map(repr, sorted(characters)[:10])) or "none") + (" ..." if len(characters) > 10 else "")


def _text_path(image: Path) -> Path:
    """Return the text file of an image; its name is the image's name without one or more of its extensions."""
    stem = image.stem
    while stem:
        path = image.with_name(stem + TEXT_SUFFIX)
        if path.is_file():
            return path
        stem = stem.rpartition(".")[0]
    return image.with_name(image.stem + TEXT_SUFFIX)


def line_text(image: Path) -> str:
    """Return the text of an image, from the file beside it.

    The file of `a.bin.png` is `a.bin.gt.txt` or, if that does not exist, `a.gt.txt`.

    Raises:
        DataError: the file cannot be read.
    """
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
    text = text.rstrip("\r\n")
    if "\n" in text:
        raise DataError(f"The text {path} has several lines, but {image.name} is a single line. Write one line.")
    return text
