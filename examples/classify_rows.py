"""Classifies the rows of a CSV file with a model of `aip train tabular_classification`. Needs TensorFlow, but not aip.

python classify_rows.py penguins/best new.csv
"""

import csv
import re
import sys
from pathlib import Path

import tensorflow as tf


def cell(text, dtype):
    """Return a cell as an input of the model. NaN and the empty string are missing values."""
    text = "" if text == "NA" else text
    return text if dtype == tf.string else float(text or "nan")


def argument(column):
    """Return the name of the input for a column: it has letters, digits and `_` only, and begins with a letter."""
    name = re.sub(r"[^0-9A-Za-z_]", lambda each: f"u{ord(each[0]):04x}" if each[0].isalnum() else "_", column)
    return name if name[0].isalpha() else f"arg_{name}"


def main(folder, table):
    """Print the class of each row and its probability."""
    lines = Path(table).read_text(encoding="utf-8-sig").splitlines()
    rows = [{argument(name): text for name, text in row.items()} for row in csv.DictReader(lines)]
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
