"""Lightning callbacks; the only place that knows wandb."""
