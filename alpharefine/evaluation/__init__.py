"""One-pass evaluation: boxes to files, files to numbers, numbers to a table."""
