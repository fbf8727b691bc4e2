"""LightningModule that trains and validates a refinement network."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError

from alpharefine.boxes import paired_iou
from alpharefine.checkpoints.backbone import imagenet_weights, load_backbone_weights
from alpharefine.data.pairs import PairBatch
from alpharefine.errors import UserError
from alpharefine.metrics import BoxIoU, MaskIoU
from alpharefine.models import (
    AlphaRefineNet,
    BackboneName,
    CornerHeadName,
    HeadName,
    MaskHeadName,
    NeckName,
    NetworkConfig,
    Prediction,
    QualityHeadName,
    SpatialAttentionName,
)
from alpharefine.options import GeometryName
from alpharefine.training.losses import best_cell_loss, corner_loss, l1_giou_loss, mask_loss, quality_loss

PartName = Literal["backbone", "neck", "corner_head", "mask_head", "quality_head"]
PARTS: tuple[PartName, ...] = get_args(PartName)
"""Parts of a network that can be trained apart."""

_WARMUP_START = 0.01
"""Ratio of the learning rate of the first warm-up step to the learning rate after the warm-up."""

LOSS = "train/loss"
"""Name of the weighted sum of the losses in the log."""

_BFLOAT16_CAPABILITY = (8, 0)
"""Compute capability of NVIDIA's Ampere, the first with instructions for bfloat16."""

_CORNER_LOSSES = {"mse": corner_loss, "l1_giou": l1_giou_loss}


class RefineTask(pl.LightningModule):
    """Training and validation of Alpha-Refine. A checkpoint stores the arguments, from which its network is rebuilt.

    Args:
        backbone: ImageNet classifier whose layers compute the features: ``resnet34`` for AR34, ``resnet18`` for AR18.
        heads: Heads of the network: ``corner``, ``mask`` or both.
        backbone_weights: Initial weights of the backbone: ``imagenet`` for those of torchvision, the path of a file
            with torchvision's parameter names (.safetensors, .pth), or null for random weights.
        neck: Correlation of template and search region, see `alpharefine.models.correlation.CorrelationNeck`.
        corner_head: Type of the corner head, see `alpharefine.models.heads`.
        mask_head: Type of the mask head, see `alpharefine.models.heads`.
        geometry: Crop geometry, see `alpharefine.crops`.
        spatial_attention: Last block of the neck, see `alpharefine.models.config.NetworkConfig`.
        quality_head: ``convolutions`` for a head that predicts the IoU of the corner head's box with the target.
        trained_parts: Parts of the network that are trained: ``backbone``, ``neck``, ``corner_head``, ``mask_head``,
            ``quality_head``. The weights and batch-norm statistics of the others are frozen. null trains all.
        frozen_stages: Index of the last backbone stage whose weights and batch-norm statistics are frozen. -1 freezes
            nothing, 0 the stem, and 1 to 3 also the stages up to this index.
        lr: Learning rate.
        backbone_lr_factor: Ratio of the backbone's learning rate to `lr`.
        weight_decay: Decoupled weight decay of AdamW. With 0, AdamW is the same as Adam.
        schedule: Learning-rate schedule. ``step`` multiplies the rate by `lr_decay` every `lr_step` epochs; ``cosine``
            warms up for `warmup_steps` steps and then decays to 0 along a half cosine, updated after every step.
        lr_step: Number of epochs between two decays of the ``step`` schedule.
        lr_decay: Decay factor of the ``step`` schedule.
        warmup_steps: Number of warm-up steps of the ``cosine`` schedule.
        corner_loss: Corner loss. ``mse`` is the loss of the paper, in squared crop pixels. ``l1_giou`` is of
            magnitude 1 and needs a `mask_weight` of the same magnitude.
        corner_weight: Weight of the corner loss.
        mask_weight: Weight of the mask loss.
        cell_weight: Weight of the classification loss of the corner head ``rpn``.
        quality_weight: Weight of the loss of the quality head. It changes no other part.
        compile: Mode of `torch.compile` in which network and losses are compiled for training: ``default`` or
            ``reduce-overhead``, which records CUDA graphs. The first step then takes some minutes. null compiles
            nothing.

    Raises:
        UserError: If the type of a part of the network is unknown, there is no head, a trained part does not exist, or
            the learning rate is not possible.
    """

    def __init__(
        self,
        backbone: BackboneName = "resnet34",
        heads: tuple[HeadName, ...] = ("corner", "mask"),
        backbone_weights: str | None = "imagenet",
        neck: NeckName = "pixel",
        corner_head: CornerHeadName = "towers",
        mask_head: MaskHeadName = "pyramid",
        geometry: GeometryName = "exact",
        spatial_attention: SpatialAttentionName = "auto",
        quality_head: QualityHeadName = "none",
        trained_parts: tuple[PartName, ...] | None = None,
        frozen_stages: Literal[-1, 0, 1, 2, 3] = -1,
        lr: float = 1e-3,
        backbone_lr_factor: float = 1.0,
        weight_decay: float = 0.0,
        schedule: Literal["step", "cosine"] = "step",
        lr_step: int = 8,
        lr_decay: float = 0.5,
        warmup_steps: int = 0,
        corner_loss: Literal["mse", "l1_giou"] = "mse",
        corner_weight: float = 1.0,
        mask_weight: float = 1000.0,
        cell_weight: float = 1.0,
        quality_weight: float = 1.0,
        compile: Literal["default", "reduce-overhead"] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if not 0 <= lr < math.inf:
            raise UserError(f"`model.lr` must be finite and not negative, got {lr}; correct it.")
        try:
            config = NetworkConfig(
                backbone, tuple(heads), neck, corner_head, mask_head, geometry, spatial_attention, quality_head
            )
        except ValueError as error:
            raise UserError(f"`model`: {error}") from error
        self.network = AlphaRefineNet(config)
        self.val_iou = BoxIoU()
        self.val_mask_iou = MaskIoU()
        self.val_quality = MeanAbsoluteError()
        existing = [name for name in PARTS if getattr(self.network, name) is not None]
        self._trained = set(existing if trained_parts is None else trained_parts)
        if not self._trained or not self._trained <= set(existing):
            raise UserError(
                f"`model.trained_parts` must name parts of the network among {', '.join(existing)}, got "
                f"{sorted(self._trained)}; correct it."
            )
        self._frozen = [name for name in existing if name not in self._trained]
        self._compiled: Callable[[PairBatch, Tensor], dict[str, Tensor]] | None = None
        for module in self._frozen_modules():
            module.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise UserError("`model.frozen_stages` and `model.trained_parts` leave no weight to train; change one.")

    def _frozen_modules(self) -> list[nn.Module]:
        num_stages = self.hparams["frozen_stages"] + 1
        stages = self.network.backbone.stages[:num_stages] if num_stages else []
        return [module for stage in stages for module in stage] + [getattr(self.network, name) for name in self._frozen]

    def _trains(self, head: HeadName) -> bool:
        """Return True if a trained part determines the output of a head of the network."""
        return bool(self._trained & {"backbone", "neck", f"{head}_head"})

    def _trained_heads(self) -> list[HeadName]:
        """Return the heads whose outputs a loss needs."""
        judged: list[HeadName] = ["corner"] if "quality_head" in self._trained else []
        return [head for head in self.network.heads if self._trains(head) or head in judged]

    def prepare_data(self) -> None:
        """Download the ImageNet weights once per machine, unless training resumes from a checkpoint."""
        if self.hparams["backbone_weights"] == "imagenet" and self.trainer.ckpt_path is None:
            imagenet_weights(self.hparams["backbone"])

    def setup(self, stage: str) -> None:
        """Load the pretrained backbone, unless training resumes from a checkpoint, and prepare the compilation.

        Args:
            stage: Stage of the trainer, such as ``fit``.

        Raises:
            UserError: If the gradients of several batches are accumulated in CUDA graphs.
        """
        source, mode = self.hparams["backbone_weights"], self.hparams["compile"]
        if stage == "fit" and mode is not None:
            if mode == "reduce-overhead" and self.trainer.accumulate_grad_batches > 1:
                # https://github.com/pytorch/pytorch/issues/169545
                raise UserError(
                    "`model.compile` must not be reduce-overhead with `trainer.accumulate_grad_batches`: PyTorch's "
                    "graphs overwrite the gradients of the batch before; use `default`."
                )
            rank_zero_info("The network is compiled in the first step, which takes some minutes.")
            self._compiled = torch.compile(self._losses, mode=mode, dynamic=False)
        if stage == "fit" and source is not None and self.trainer.ckpt_path is None:
            load_backbone_weights(self.network.backbone, self.hparams["backbone"], source)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Require the same hyperparameters as in the checkpoint, except for the initial weights and the compilation.

        The states of the optimizer and the schedule come from the checkpoint, so other values might have no effect.

        Args:
            checkpoint: Content of the checkpoint.

        Raises:
            UserError: If a hyperparameter differs.
        """
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = self.hparams.get(name, parameter.default)
            began = checkpoint["hyper_parameters"].get(name, parameter.default)
            if isinstance(value, list | tuple) and isinstance(began, list | tuple):
                value, began = list(value), list(began)  # a list if read from a file, else a tuple
            same = value == began
            if name not in ("backbone_weights", "compile") and not same:
                raise UserError(
                    f"`model.{name}` was {began} when this run began, got {value}; a resumed run keeps its values: "
                    "restore the value, or start another run."
                )

    def on_fit_start(self) -> None:
        """Warn of a GPU that is slow in bfloat16."""
        is_bfloat16_on_gpu = self.trainer.precision == "bf16-mixed" and self.device.type == "cuda"
        if is_bfloat16_on_gpu and torch.cuda.get_device_capability(self.device) < _BFLOAT16_CAPABILITY:
            rank_zero_warn("This GPU has no instructions for bfloat16; `--trainer.precision 16-mixed` is faster.")

    def on_train_start(self) -> None:
        """Freeze the batch-norm statistics of frozen stages. No epoch starts if training resumes inside one."""
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Freeze the batch-norm statistics of frozen stages."""
        for module in self._frozen_modules():
            module.eval()

    def forward(self, batch: PairBatch) -> Prediction:
        """Run all heads on a batch of pairs.

        Args:
            batch: Batch of pairs.
        """
        return self._predict(batch, None)

    def _predict(self, batch: PairBatch, heads: Collection[HeadName] | None) -> Prediction:
        kernel = self.network.encode_template(batch.template, batch.template_xyxy)
        prediction: Prediction = self.network(batch.search, kernel, heads)
        return prediction

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Compute and log the weighted sum of the losses of all heads.

        Args:
            batch: Batch of pairs.
            batch_idx: Index of the batch.

        Returns:
            Total loss, a scalar. If it is not finite, all its gradients are NaN, in all processes.
        """
        losses = (self._compiled or self._losses)(batch, self._num_masks(batch))
        total = torch.stack([self._weight(name) * loss for name, loss in losses.items()]).sum()
        # `mask_loss` divides by the mean number of masks per process, so only the average over processes is meaningful.
        self.log(LOSS, total, sync_dist=True)
        self.log_dict({f"train/loss_{name}": loss for name, loss in losses.items()}, sync_dist=True)
        return total * torch.where(total.isfinite(), 1.0, math.nan)

    def _num_masks(self, batch: PairBatch) -> Tensor:
        """Return the mean number of masks of a process, at least one mask in all of them."""
        count = batch.has_mask.sum().float()
        if self.trainer.world_size > 1 and "mask" in self.network.heads and self._trains("mask"):
            count = self.trainer.strategy.reduce(count, reduce_op="mean")
        return count.clamp(min=1 / self.trainer.world_size)

    def _losses(self, batch: PairBatch, num_masks: Tensor) -> dict[str, Tensor]:
        prediction = self._predict(batch, self._trained_heads()) if self._frozen else self(batch)
        losses = {}
        if prediction.corners is not None and self._trains("corner"):
            criterion = _CORNER_LOSSES[self.hparams["corner_loss"]]
            losses["corner"] = criterion(prediction.corners.crop_xyxy, batch.target_xyxy)
            if self.hparams["corner_head"] == "rpn":
                losses["cell"] = best_cell_loss(prediction.corners.scores, batch.target_xyxy)
        if prediction.corners is not None and prediction.quality_logits is not None and "quality_head" in self._trained:
            boxes_xyxy = prediction.corners.crop_xyxy
            losses["quality"] = quality_loss(prediction.quality_logits, boxes_xyxy, batch.target_xyxy)
        if prediction.mask_logits is not None and self._trains("mask"):
            losses["mask"] = mask_loss(prediction.mask_logits, batch.mask, batch.has_mask, num_masks)
        return losses

    def _weight(self, name: str) -> float:
        return float(self.hparams[f"{name}_weight"])

    def validation_step(self, batch: PairBatch, batch_idx: int) -> Mapping[str, Prediction]:
        """Update and log the IoU of boxes and masks in crop coordinates, and the error of the predicted IoU.

        Args:
            batch: Batch of pairs.
            batch_idx: Index of the batch.

        Returns:
            Dictionary with the prediction, for callbacks that log images.
        """
        prediction: Prediction = self(batch)
        batch_size = len(batch.search)
        if prediction.corners is not None:
            self.val_iou.update(prediction.corners.crop_xyxy, batch.target_xyxy)
            self.log("val/iou", self.val_iou, prog_bar=True, batch_size=batch_size)
            if prediction.quality_logits is not None:
                ious = paired_iou(prediction.corners.crop_xyxy, batch.target_xyxy)
                self.val_quality.update(prediction.quality_logits.sigmoid(), ious)
                self.log("val/quality_error", self.val_quality, batch_size=batch_size)
        if prediction.mask_logits is not None:
            self.val_mask_iou.update(prediction.mask_logits.sigmoid(), batch.mask, batch.has_mask)
            self.log("val/mask_iou", self.val_mask_iou, prog_bar=True, batch_size=batch_size)
        return {"prediction": prediction}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build AdamW, with separate learning rates for the backbone and the other parameters, and the schedule."""
        hparams = self.hparams
        backbone = list(self.network.backbone.parameters())
        in_backbone = {id(p) for p in backbone}
        rest = [p for p in self.network.parameters() if id(p) not in in_backbone and p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": rest, "lr": hparams["lr"]}] if rest else []
        trained = [p for p in backbone if p.requires_grad]
        if trained:
            groups.append({"params": trained, "lr": hparams["lr"] * hparams["backbone_lr_factor"]})
        fused = self.device.type in ("cpu", "cuda")  # elsewhere, fused optimizers do not skip non-finite steps
        optimizer = torch.optim.AdamW(groups, weight_decay=hparams["weight_decay"], fused=fused or None)
        optimizer.register_load_state_dict_pre_hook(_stay_fused)
        optimizer._step_supports_amp_scaling = False  # a gradient scaler divides before the gradients are clipped
        if hparams["schedule"] == "step":
            epoch_schedule = torch.optim.lr_scheduler.StepLR(optimizer, hparams["lr_step"], hparams["lr_decay"])
            return {"optimizer": optimizer, "lr_scheduler": epoch_schedule}
        step_schedule = _warmup_cosine(optimizer, hparams["warmup_steps"], int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": step_schedule, "interval": "step"}}


def _stay_fused(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Keep the implementation when the state of a run on another kind of device is loaded."""
    for group in state_dict["param_groups"]:
        group["fused"] = optimizer.defaults["fused"]


def _warmup_cosine(
    optimizer: torch.optim.Optimizer, warmup_steps: int, total_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Build the ``cosine`` schedule. The learning rate is a function of the step and of the total number of steps.

    If a resumed run is longer than the original run, it therefore follows the schedule of the new length.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return _WARMUP_START + (1 - _WARMUP_START) * step / warmup_steps
        done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        return (1 + math.cos(math.pi * min(done, 1.0))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
