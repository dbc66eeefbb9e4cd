"""aip: the plugin-based training framework for TensorFlow and Keras 3."""

__version__ = "0.1.0"
