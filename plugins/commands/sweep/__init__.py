"""`aip sweep`: trains a scenario many times under parameters that Optuna chooses, each time in its own process."""
