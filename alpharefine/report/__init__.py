"""Reports: scores to tables."""
