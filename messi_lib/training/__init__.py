"""Training loop, checkpoints and averages; knows no chapter."""
