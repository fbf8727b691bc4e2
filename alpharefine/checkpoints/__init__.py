"""Reading and writing of checkpoints, without running code in them."""
