"""Training in two stages: with augmentation, then without."""
