"""``python -m alpharefine.cli``."""

from alpharefine.cli.main import console

console()
