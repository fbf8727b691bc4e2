"""Numbers that the original programs computed, which every checkout holds; README.md describes the files."""
