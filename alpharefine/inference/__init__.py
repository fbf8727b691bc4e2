"""Inference: the backend protocol, its implementations, and the refiner on top of them."""
