"""Separate graphs for training and prediction: Roman numerals from a decoder trained with teacher forcing.

aip train examples/two_graphs.py --trainer.output_dir roman
aip predict roman --trust --data.numbers 1984 2026
"""

from aipcore.params import at_least, between, field, group, params
from aipcore.scenario import DataParams, Evaluator, ModelParams, PostProcessor, Scenario, ScenarioParams

END, LETTERS, LENGTH = 0, ".IVXLCDM", 16
"""The index of the end letter, all letters, and the length of the longest numeral including its end."""


@params
class Data(DataParams):
    numbers: tuple[int, ...] = field(
        (), help="Numbers to convert. Default: the validation numbers.", check=between(1, 3999)
    )


@params
class Model(ModelParams):
    units: int = field(64, help="Units of encoder and decoder.", check=at_least(1))


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="Numbers.")
    model: Model = group(Model, help="The network.")


class Roman(Scenario):
    """Writes Roman numerals, letter by letter."""

    params_class = Params
    defaults = {"trainer.epochs": 5, "trainer.lav_every_n": 1, "learning_rate.lr": 0.005}
    monitor = ("max", "accuracy")

    def train_data(self):
        return columns([number for number in range(1, 4000) if number % 8])

    def val_data(self):
        return columns(range(8, 4000, 8))

    def predict_data(self):
        return columns(self.params.data.numbers) if self.params.data.numbers else self.val_data()

    def build(self, inputs):
        """Build the training graph: the decoder receives the correct letters, shifted by one step."""
        from keras import layers, ops

        units = self.params.model.units
        read = layers.Dense(units, activation="tanh", name="read")(layers.Flatten()(ops.one_hot(inputs["digits"], 10)))
        letters = layers.Embedding(len(LETTERS), units, name="letters")(inputs["previous"])
        write = layers.GRU(units, return_sequences=True, return_state=True, name="write")
        written, _ = write(letters, initial_state=read)
        return {"logits": layers.Dense(len(LETTERS), name="logits")(written)}

    def build_prediction(self, model):
        """Build the graph for export, `aip lav` and `aip predict`: the same layers, fed with their own output."""
        import keras
        from keras import ops

        letters, write, logits = (model.get_layer(name) for name in ("letters", "write", "logits"))
        state = model.get_layer("read").output
        letter = ops.zeros_like(model.input["digits"][:, :1])
        answer = []
        for _ in range(LENGTH):
            written, state = write(letters(letter), initial_state=state)
            letter = ops.argmax(logits(written), axis=-1)
            answer.append(letter)
        return keras.Model({"digits": model.input["digits"]}, {"numeral": ops.concatenate(answer, axis=1)})

    def losses(self):
        from keras.losses import SparseCategoricalCrossentropy

        return {"logits": SparseCategoricalCrossentropy(from_logits=True)}

    def metrics(self):
        from keras.metrics import SparseCategoricalAccuracy

        return {"logits": [SparseCategoricalAccuracy(name="accuracy")]}

    def evaluator(self):
        return WholeNumerals()

    def post_processors(self):
        return [Spell()]


class WholeNumerals(Evaluator):
    """Fraction of numerals without any wrong letter. Receives the outputs of the prediction graph."""

    def __init__(self):
        self.right = self.seen = 0

    def update(self, targets, outputs, meta):
        self.right += int((outputs["numeral"] == targets["letters"]).all(axis=1).sum())
        self.seen += len(targets["letters"])

    def result(self):
        return {"whole_numerals": self.right / self.seen}


class Spell(PostProcessor):
    """Converts letters to text."""

    def process(self, outputs, meta):
        return {"numeral": "".join(LETTERS[letter] for letter in outputs["numeral"]).partition(LETTERS[END])[0]}


def columns(numbers):
    """Return inputs (digits, int32 [samples, 4]; previous letters, int32 [samples, 16]) and targets (the letters)."""
    import numpy as np

    digits = np.array([[int(digit) for digit in f"{number:04d}"] for number in numbers], np.int32)
    letters = np.array([[LETTERS.index(each) for each in roman(number)] for number in numbers], np.int32)
    previous = np.pad(letters, ((0, 0), (1, 0)), constant_values=END)[:, :-1]
    return {"digits": digits, "previous": previous}, {"letters": letters}


def roman(number):
    """Return the numeral, padded with end letters."""
    values = {"M": 1000, "CM": 900, "D": 500, "CD": 400, "C": 100, "XC": 90, "L": 50, "XL": 40, "X": 10, "IX": 9}
    text = ""
    for letters, value in {**values, "V": 5, "IV": 4, "I": 1}.items():
        count, number = divmod(number, value)
        text += letters * count
    return text.ljust(LENGTH, LETTERS[END])
