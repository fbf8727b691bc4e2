"""Reports: scores to tables, plots, and a page."""
