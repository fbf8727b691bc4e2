"""Reading checkpoints; nothing that is in them is executed."""
