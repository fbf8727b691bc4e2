"""Inference: networks behind one protocol, and the refiner on top of them."""
