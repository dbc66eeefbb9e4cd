"""Training speed compared with peers: one process per peer, with epochs in turns."""
