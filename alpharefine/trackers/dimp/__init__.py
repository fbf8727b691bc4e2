"""ATOM, DiMP, PrDiMP and SuperDiMP, from the files that their authors published."""
