"""Training on files that do not fit in memory: shards of TFRecord or Parquet.

python examples/large_shards.py shards --gigabytes 2
aip train examples/large_shards.py:TFRecords --data.folder shards
aip train examples/large_shards.py:ParquetFiles --data.folder shards
"""

import argparse
from pathlib import Path

import numpy as np

from aipcore.params import at_least, field, group, params
from aipcore.scenario import DataParams, Scenario, ScenarioParams, Stream

VALUES = 16 * 1024
ROWS = 64


@params
class Data(DataParams):
    folder: Path = field(Path("shards"), help="Folder with the files.")
    buffer: int = field(128, help="Samples that tf.data shuffles together.", check=at_least(1))


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="The files.")


class LargeShards(Scenario):
    """Base of the two: predicts the pitch of a noisy tone of 16384 values, which is 64 KiB."""

    params_class = Params
    defaults = {"trainer.epochs": 2, "train.batch_size": 64, "learning_rate.lr": 0.003}

    def val_data(self):
        with np.load(self.params.data.folder / "val.npz") as arrays:
            return arrays["inputs"], arrays["targets"]

    def build(self, inputs):
        from keras import layers

        x = layers.Reshape((VALUES, 1))(inputs)
        x = layers.Conv1D(8, 32, strides=16, activation="relu")(x)
        x = layers.Conv1D(16, 16, strides=8, activation="relu")(x)
        return layers.Dense(1)(layers.GlobalAveragePooling1D()(x))

    def losses(self):
        return "mse"


class TFRecords(LargeShards):
    """Shards of TFRecord, read by tf.data."""

    def train_data(self):
        import tensorflow as tf

        def parse(records):
            found = tf.io.parse_example(records, {name: tf.io.FixedLenFeature([], tf.string) for name in ("x", "y")})
            x, y = (tf.io.decode_raw(found[name], tf.float32) for name in ("x", "y"))
            return tf.ensure_shape(x, (None, VALUES)), tf.ensure_shape(y, (None, 1))

        data = self.params.data
        files = tf.data.Dataset.from_tensor_slices(sorted(map(str, data.folder.glob("*.tfrecord"))))
        # The order of the files and of the records is part of the saved state, so a resumed run continues exactly.
        records = files.shuffle(1000, seed=1).interleave(tf.data.TFRecordDataset, cycle_length=4)
        return Stream(
            records.shuffle(data.buffer, seed=2).batch(64).map(parse),
            length=-(-int((data.folder / "samples.txt").read_text()) // 64),
        )


class RowGroups:
    """An iterator over the rows of Parquet files, one row group in memory at a time."""

    def __init__(self, files):
        self.files = files
        self.file = self.group = self.row = 0
        self.opened = self.rows = None

    def __iter__(self):
        return self

    def __next__(self):
        import pyarrow.parquet as pq

        while self.rows is None or self.row == len(self.rows[1]):
            if self.rows is not None:
                self.group, self.row, self.rows = self.group + 1, 0, None
            if self.opened is not None and self.group == self.opened.num_row_groups:
                self.file, self.group, self.opened = self.file + 1, 0, None
            if self.file == len(self.files):
                raise StopIteration
            self.opened = self.opened or pq.ParquetFile(self.files[self.file])
            table = self.opened.read_row_group(self.group)
            self.rows = [np.stack([np.frombuffer(row, np.float32) for row in table[n].to_pylist()]) for n in "xy"]
        self.row += 1
        return self.rows[0][self.row - 1], self.rows[1][self.row - 1]

    def get_state(self):
        """The position. With this and `set_state`, a resumed run continues here instead of reading from the start."""
        return [self.file, self.group, self.row]

    def set_state(self, state):
        self.file, self.group, self.row = state
        self.opened = self.rows = None


class ParquetFiles(LargeShards):
    """Parquet files, read row group by row group with pyarrow."""

    defaults = LargeShards.defaults | {"train.shuffle_buffer": 128}

    def train_data(self):
        folder = self.params.data.folder
        files = sorted(map(str, folder.glob("*.parquet")))
        return Stream(lambda: RowGroups(files), length=int((folder / "samples.txt").read_text()))


def tones(count, seed):
    """Return noisy tones and their pitches."""
    generator = np.random.default_rng(seed)
    pitch = generator.uniform(0.01, 0.5, (count, 1)).astype(np.float32)
    noise = generator.normal(0, 0.1, (count, VALUES)).astype(np.float32)
    return np.sin(pitch * np.arange(VALUES, dtype=np.float32)) + noise, pitch


def write(folder, gigabytes, shards, kinds):
    """Write the samples as TFRecord or Parquet files, in memory for 64 samples."""
    blocks = max(1, round(gigabytes * 1e9 / (4 * VALUES * ROWS * shards)))
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        for kind in kinds:
            name = str(folder / f"{shard:04}.{kind}")
            made = (tones(ROWS, seed=(shard, block)) for block in range(blocks))
            (write_tfrecord if kind == "tfrecord" else write_parquet)(name, made)
    (folder / "samples.txt").write_text(str(shards * blocks * ROWS))
    inputs, targets = tones(128, seed=0)
    np.savez(folder / "val.npz", inputs=inputs, targets=targets)


def write_tfrecord(name, made):
    """Write blocks of samples to a TFRecord file."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(name) as writer:
        for block in made:
            for row in zip(*block, strict=True):
                features = {
                    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[values.tobytes()]))
                    for name, values in zip("xy", row, strict=True)
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def write_parquet(name, made):
    """Write blocks of samples to a Parquet file, each as a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(name, pa.schema({"x": pa.binary(), "y": pa.binary()}), compression="none") as writer:
        for block in made:
            columns = {name: [row.tobytes() for row in values] for name, values in zip("xy", block, strict=True)}
            writer.write_table(pa.table(columns, schema=writer.schema))


def main():
    """Generate the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the files of each kind")
    parser.add_argument("--shards", type=int, default=8, help="number of files of each kind")
    parser.add_argument("--kinds", nargs="+", choices=["tfrecord", "parquet"], default=["tfrecord", "parquet"])
    given = parser.parse_args()
    write(given.folder, given.gigabytes, given.shards, given.kinds)


if __name__ == "__main__":
    main()
