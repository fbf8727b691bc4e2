"""The refinement network and its parts; torch and torchvision only."""

from alpharefine.models.backbone import BackboneName, ResNetTrunk, Taps
from alpharefine.models.heads import CornerHead, Corners, MaskHead, soft_argmax
from alpharefine.models.network import AlphaRefineNet, HeadName, Prediction

__all__ = [
    "AlphaRefineNet",
    "BackboneName",
    "CornerHead",
    "Corners",
    "HeadName",
    "MaskHead",
    "Prediction",
    "ResNetTrunk",
    "Taps",
    "soft_argmax",
]
