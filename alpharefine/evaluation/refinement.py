"""What a run's refiner turns out to be: its checkpoint is read once and what the settings leave open is decided."""

from __future__ import annotations

from dataclasses import replace

import torch

from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.evaluation.run import RunSettings, choose_min_feedback_score
from alpharefine.inference.options import resolve_box_head, resolve_precision


def settle_refinement(settings: RunSettings) -> tuple[RunSettings, str]:
    """Replace what depends on the checkpoint by what it comes to, so that two ways to say the same thing are the same.

    Args:
        settings: of a run with a checkpoint.

    Returns:
        The settings, and lines that say what the checkpoint holds, and what it does not tell.

    Raises:
        UserError: if the file is missing or not one of a refinement network.
    """
    assert settings.ckpt is not None
    loaded = load_checkpoint(settings.ckpt, settings.geometry)
    network = loaded.network
    settled = replace(
        settings,
        geometry=network.geometry,
        precision=resolve_precision(
            settings.precision, "cuda" if torch.cuda.is_available() else "cpu", network.geometry
        ),
        box_from=resolve_box_head(settings.box_from, network.heads),
        min_feedback_score=choose_min_feedback_score(settings, network.geometry),
    )
    doubts = f"{loaded.doubts}\n" if loaded.doubts else ""
    return settled, f"{settings.ckpt}: {loaded.description}; {network.config}\n{doubts}"
