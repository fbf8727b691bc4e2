"""LightningDataModules for training Alpha-Refine."""

from datamodules.crop_store import CropStoreDataModule
from datamodules.pairs import COCODataModule, GOT10kDataModule, LaSOTDataModule, PairDataModule, Source

__all__ = ["COCODataModule", "CropStoreDataModule", "GOT10kDataModule", "LaSOTDataModule", "PairDataModule", "Source"]
