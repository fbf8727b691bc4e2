"""Generated videos and images in the layouts of the real data sets."""

from alpharefine.synthetic.layouts import write_coco, write_got10k, write_lasot, write_mask_video, write_saliency
from alpharefine.synthetic.scenes import (
    SyntheticCrowd,
    SyntheticSequence,
    generate_crowd,
    generate_image,
    generate_sequence,
)

__all__ = [
    "SyntheticCrowd",
    "SyntheticSequence",
    "generate_crowd",
    "generate_image",
    "generate_sequence",
    "write_coco",
    "write_got10k",
    "write_lasot",
    "write_mask_video",
    "write_saliency",
]
