"""Alpha-Refine: precise boxes and masks for any visual object tracker."""

from typing import TYPE_CHECKING

from alpharefine.errors import UserError

if TYPE_CHECKING:
    from alpharefine.inference.refiner import Refinement, Refiner, Template

__all__ = ["Refinement", "Refiner", "Template", "UserError", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the refiner on first use, so that `import alpharefine` does not load torch."""
    if name in ("Refinement", "Refiner", "Template"):
        from alpharefine.inference import refiner

        return getattr(refiner, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
