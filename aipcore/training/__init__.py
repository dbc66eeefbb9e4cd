"""Training: the trainer, its compiled loop, and everything that a run writes."""
