"""Evaluation data sets, one file a benchmark."""
