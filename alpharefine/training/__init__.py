"""Training: the LightningModule, its losses and its callbacks."""
