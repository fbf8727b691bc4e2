"""The refinement network and its parts; torch and torchvision only."""

from alpharefine.models.backbone import Backbone, FeaturePyramid, build_backbone
from alpharefine.models.config import (
    BackboneName,
    CornerHeadName,
    HeadName,
    MaskHeadName,
    NeckName,
    NetworkConfig,
    QualityHeadName,
    SpatialAttentionName,
)
from alpharefine.models.heads import Corners, Grid, soft_argmax
from alpharefine.models.network import IMAGENET_MEAN, IMAGENET_STD, AlphaRefineNet, Prediction
from alpharefine.models.roi import precise_roi_pool

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "AlphaRefineNet",
    "Backbone",
    "BackboneName",
    "CornerHeadName",
    "Corners",
    "FeaturePyramid",
    "Grid",
    "HeadName",
    "MaskHeadName",
    "NeckName",
    "NetworkConfig",
    "Prediction",
    "QualityHeadName",
    "SpatialAttentionName",
    "build_backbone",
    "precise_roi_pool",
    "soft_argmax",
]
