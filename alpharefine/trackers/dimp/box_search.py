"""Search for the box that fits the target best.

Source: ATOM (arXiv 1811.07628), section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from alpharefine.models.cuda_graphs import GraphedFunction
from alpharefine.trackers.dimp.iou_net import IoUNet

RefinementSpace = Literal["default", "relative"]


@dataclass(frozen=True)
class BoxSearch:
    """Settings of the search for the best box.

    Attributes:
        space: Coordinates of the steps, see `climb`.
        num_steps: Number of steps of gradient ascent.
        step_length: Length of the first step, or lengths for position and size.
        step_decay: Factor of the step length after each step.
        num_random_boxes: Number of random initial boxes besides that of the classifier.
        jitter_position: Spread of the random boxes' positions as a fraction of the target's size.
        jitter_size: Spread of the random boxes' sizes as a fraction of the target's size.
        max_aspect_ratio: Maximum aspect ratio of a result.
        num_averaged: Number of best boxes that are averaged.
    """

    space: RefinementSpace
    num_steps: int
    step_length: float | tuple[float, float]
    step_decay: float = 1.0
    num_random_boxes: int = 9
    jitter_position: float = 0.1
    jitter_size: float = 0.5
    max_aspect_ratio: float = 6.0
    num_averaged: int = 3


def search_box(
    network: IoUNet,
    features: tuple[Tensor, Tensor],
    box_xywh: np.ndarray,
    search: BoxSearch,
    generator: torch.Generator,
) -> np.ndarray | None:
    """Return the mean of the best boxes that gradient ascent reaches from a box and from random boxes around it.

    Args:
        network: Network that scores boxes, without gradients of its parameters.
        features: Features of the image, multiplied by the target's modulation.
        box_xywh: Initial box, ``(4,)`` float32 in crop pixels.
        search: Settings of the search.
        generator: Generator of the random boxes, on the CPU.

    Returns:
        Box, ``(4,)`` float32 xywh in crop pixels; None if all boxes exceed the maximum aspect ratio.
    """
    starts = torch.from_numpy(np.concatenate([box_xywh[None], _random_boxes(box_xywh, search, generator)]))
    device = features[0].device
    if search not in network.searches:
        network.searches[search] = GraphedFunction(partial(_climb, network, search))
    boxes, values = network.searches[search](*features, starts[None].to(device), device=device)
    best = torch.cat([boxes[0], values[0, :, None]], dim=1).cpu().numpy()
    best[:, 2:4] = best[:, 2:4].clip(min=1)
    aspect = best[:, 2] / best[:, 3]
    best = best[(aspect < search.max_aspect_ratio) & (aspect > 1 / search.max_aspect_ratio)]
    if len(best) == 0:
        return None
    order = np.argsort(-best[:, 4], kind="stable")[: search.num_averaged]
    mean: np.ndarray = best[order, :4].mean(axis=0)
    return mean


def _climb(
    network: IoUNet, search: BoxSearch, layer2: Tensor, layer3: Tensor, boxes_xywh: Tensor
) -> tuple[Tensor, Tensor]:
    return climb(
        network,
        (layer2, layer3),
        boxes_xywh,
        search.space,
        search.num_steps,
        search.step_length,
        search.step_decay,
    )


def _random_boxes(box_xywh: np.ndarray, search: BoxSearch, generator: torch.Generator) -> np.ndarray:
    if search.num_random_boxes == 0:
        return np.empty((0, 4), dtype=np.float32)
    corner, size = box_xywh[:2], box_xywh[2:]
    jitter = np.array([search.jitter_position] * 2 + [search.jitter_size] * 2, dtype=np.float32)
    spread = np.sqrt(size.prod()) * jitter
    moves = (torch.rand(search.num_random_boxes, 4, generator=generator).numpy() - np.float32(0.5)) * spread
    sizes = np.maximum(size + moves[:, 2:], size.min() / 3)
    return np.concatenate([corner + size / 2 + moves[:, :2] - sizes / 2, sizes], axis=1)


def climb(
    network: IoUNet,
    features: tuple[Tensor, Tensor],
    boxes_xywh: Tensor,
    space: RefinementSpace,
    num_steps: int,
    step_length: float | tuple[float, float],
    decay: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Improve boxes by gradient ascent on their scores, independently of each other.

    Args:
        network: Network that scores boxes, without gradients of its parameters.
        features: Features of the image, multiplied by the target's modulation.
        boxes_xywh: Initial boxes, ``(1, P, 4)`` in crop pixels.
        space: Coordinates of the steps. ``default``: in proportion to each box's size. ``relative`` (PrDiMP, arXiv
            2003.12565, section 5): positions divided by the first box's size, and logarithms of sizes.
        num_steps: Number of steps.
        step_length: Length of the first step, or lengths for position and size.
        decay: Factor of the step length after each step.

    Returns:
        Boxes ``(1, P, 4)`` in crop pixels, and their scores ``(1, P)`` before the last step.
    """
    lengths = (step_length, step_length) if isinstance(step_length, float | int) else step_length
    step = torch.cat([boxes_xywh.new_full((2,), length) for length in lengths])
    first_size = boxes_xywh[:, :1, 2:]
    point = boxes_xywh if space == "default" else _to_relative(boxes_xywh, first_size)
    values = boxes_xywh.new_empty(boxes_xywh.shape[:-1])
    for _ in range(num_steps):
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            values = network(features, point if space == "default" else _from_relative(point, first_size))
            (gradient,) = torch.autograd.grad(values.sum(), point)
        sizes = point.detach()[..., 2:].repeat(1, 1, 2) if space == "default" else 1
        point = point.detach() + step * gradient * sizes
        step = step * decay
    boxes_xywh = point if space == "default" else _from_relative(point, first_size)
    return boxes_xywh.detach(), values.detach()


def _to_relative(boxes_xywh: Tensor, size: Tensor) -> Tensor:
    return torch.cat([(boxes_xywh[..., :2] + boxes_xywh[..., 2:] / 2) / size, boxes_xywh[..., 2:].log()], dim=-1)


def _from_relative(point: Tensor, size: Tensor) -> Tensor:
    sizes = point[..., 2:].exp()
    return torch.cat([point[..., :2] * size - sizes / 2, sizes], dim=-1)
