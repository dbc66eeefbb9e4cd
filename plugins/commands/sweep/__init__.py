"""`aip sweep`: many training runs with hyperparameters chosen by Optuna, each run in its own process."""
