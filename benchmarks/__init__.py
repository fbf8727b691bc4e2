"""Measurements of speed and memory. ``python -m benchmarks`` runs those that compare two paths."""
