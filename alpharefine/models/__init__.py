"""The refinement network and its parts; torch and torchvision only."""

from alpharefine.models.backbone import BackboneName, Taps, Trunk, make_trunk
from alpharefine.models.correlation import NeckName, SpatialAttentionName
from alpharefine.models.heads import CornerHeadName, Corners, Grid, MaskHeadName, soft_argmax
from alpharefine.models.network import IMAGENET_MEAN, IMAGENET_STD, AlphaRefineNet, HeadName, Prediction
from alpharefine.models.roi import precise_roi_pool

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "AlphaRefineNet",
    "BackboneName",
    "CornerHeadName",
    "Corners",
    "Grid",
    "HeadName",
    "MaskHeadName",
    "NeckName",
    "Prediction",
    "SpatialAttentionName",
    "Taps",
    "Trunk",
    "make_trunk",
    "precise_roi_pool",
    "soft_argmax",
]
