"""Classifies the rows of a CSV file with a model of `aip train tabular_classification`. Needs TensorFlow, but not aip.

python classify_rows.py penguins/best new.csv
"""

import csv
import sys
from pathlib import Path

import tensorflow as tf


def cell(text, dtype):
    """Return a cell as an input of the model. NaN and the empty string are missing values."""
    text = "" if text == "NA" else text
    return text if dtype == tf.string else float(text or "nan")


def main(folder, table):
    """Print the class of each row and its probability."""
    rows = list(csv.DictReader(Path(table).read_text(encoding="utf-8").splitlines()))
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    columns = {
        name: tf.constant([cell(row[name], spec.dtype) for row in rows], spec.dtype)
        for name, spec in serve.structured_input_signature[1].items()
    }
    answer = serve(**columns)
    for name, probabilities in zip(answer["class"].numpy(), answer["probabilities"].numpy(), strict=True):
        sys.stdout.write(f"{name.decode()}\t{probabilities.max():.3f}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
