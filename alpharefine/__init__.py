"""Alpha-Refine: precise boxes and masks for any visual object tracker."""

from alpharefine.errors import UserError
from alpharefine.inference.refiner import Refinement, Refiner, Template

__all__ = ["Refinement", "Refiner", "Template", "UserError"]
