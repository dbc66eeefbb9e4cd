"""Pretrained models of keras.applications and KerasHub, as graphs of several scenarios."""
