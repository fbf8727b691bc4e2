"""LightningDataModules for training Alpha-Refine."""

from datamodules.pairs import COCODataModule, GOT10kDataModule, LaSOTDataModule, PairDataModule, Source

__all__ = ["COCODataModule", "GOT10kDataModule", "LaSOTDataModule", "PairDataModule", "Source"]
