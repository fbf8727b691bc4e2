"""ATOM, DiMP, PrDiMP and SuperDiMP with their authors' published weights."""
