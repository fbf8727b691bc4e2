"""The parameter names of the original Alpha-Refine checkpoints and ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_UNUSED = ("feature_extractor.layer4.", "feature_extractor.fc.")

_PREFIXES = {
    "feature_extractor.": "backbone.",
    "neck.post_corr.": "neck.post_correlation.",
    "neck.channel_attention.fc1.": "neck.gate.squeeze.",
    "neck.channel_attention.fc2.": "neck.gate.excite.",
    **{
        f"corner_head.conv{i + 1}_{short}.": f"corner_head.{name}.{i}."
        for short, name in (("tl", "top_left"), ("br", "bottom_right"))
        for i in range(5)
    },
    **{f"mask_head.v{i}.": f"mask_head.side{i}." for i in range(3)},
    **{f"mask_head.h{i}.": f"mask_head.top{i}." for i in range(3)},
    # The original counts the merging layers from the top of the pyramid, we count by the level they write to.
    **{f"mask_head.post{i}.": f"mask_head.merge{2 - i}." for i in range(3)},
    **{f"feat_adjust.{i}.": f"mask_head.adjust_{tap}." for i, tap in enumerate(("conv1", "layer1", "layer2"))},
}


def from_original_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of an original corner + mask network to those of `AlphaRefineNet`.

    The parts that the original saves but never runs (``layer4``, ``fc``) are dropped.

    Raises:
        KeyError: if a name is not one of the original's.
    """
    renamed = {}
    for name, value in state.items():
        if name.startswith(_UNUSED):
            continue
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix is None:
            raise KeyError(f"`{name}` is not a parameter of an original Alpha-Refine network.")
        renamed[_PREFIXES[prefix] + name.removeprefix(prefix)] = value
    return renamed
