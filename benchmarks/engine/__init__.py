"""Training speed against peers: one process for each peer, whose epochs take turns."""
