"""Data set readers, the index, and training pairs.

Importing this package imports none of its modules, so that a reader does not load PyTorch or albumentations.
"""
