"""Export of a network to files that run without this package."""
