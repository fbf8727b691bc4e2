"""Training pairs per second of the step alone: forward, losses, backward and optimizer, on the GPU if there is one.

The batch stays on the device. The reference is the step in float32 without TF32, with weights in the default layout.
Ours is in bfloat16, unless this is a CPU without instructions for it, and has the fused optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from alpharefine.inference.options import resolve_precision
from alpharefine.models import BackboneName
from alpharefine.models.precision import full_float32
from alpharefine.training.losses import corner_loss, mask_loss
from alpharefine.training.task import RefineTask
from benchmarks.rows import Row, alternate, medians

NETWORKS: dict[str, BackboneName] = {"AR34": "resnet34", "AR18": "resnet18"}
CROP_SIZE = 256


def measure(quick: bool) -> list[Row]:
    """Measure the networks with corner and mask head.

    Args:
        quick: Take a single step of the smaller network only.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    has_bfloat16 = device == "cuda" or resolve_precision("auto", device, "exact") == "bf16"
    precision, context = (
        ("bfloat16", partial(torch.autocast, device, torch.bfloat16)) if has_bfloat16 else ("float32", nullcontext)
    )
    batch_size = 128 if device == "cuda" and not quick else 2
    rows = []
    for name, backbone in list(NETWORKS.items())[-1 if quick else 0 :]:
        paths = {
            "reference": _step(backbone, device, batch_size, torch.contiguous_format, full_float32, fused=False),
            "ours": _step(backbone, device, batch_size, torch.channels_last, context, fused=True),
        }
        rounds, warm_up = (1, 0) if quick else (20, 5) if device == "cuda" else (3, 1)
        rates = {path: batch_size / seconds for path, seconds in medians(alternate(paths, rounds, warm_up)).items()}
        what = f"training step, {name}, corner + mask, batches of {batch_size}, {precision} on {device}"
        rows.append(Row(what, "pairs/s", rates["ours"], rates["reference"], "plain float32"))
    return rows


def _step(
    backbone: BackboneName,
    device: str,
    batch_size: int,
    memory_format: torch.memory_format,
    context: Callable[[], AbstractContextManager[object]],
    fused: bool,
) -> Callable[[], object]:
    task = RefineTask(backbone=backbone, backbone_weights=None)
    network = task.network.to(device).to(memory_format=memory_format).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=fused)
    template, search = torch.randint(0, 256, (2, batch_size, 3, CROP_SIZE, CROP_SIZE), device=device).to(torch.uint8)
    target_xyxy = torch.tensor([64.0, 64.0, 192.0, 192.0], device=device).expand(batch_size, 4)
    mask = torch.randint(0, 2, (batch_size, CROP_SIZE, CROP_SIZE), device=device)
    has_mask = torch.ones(batch_size, dtype=torch.bool, device=device)

    def step() -> None:
        with context():
            prediction = network(search, network.encode_template(template, target_xyxy))
            loss = corner_loss(prediction.corners.crop_xyxy, target_xyxy)
            loss = loss + 1000 * mask_loss(prediction.mask_logits, mask, has_mask)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step
