"""Data sets, pairs to train on, and generated video."""
