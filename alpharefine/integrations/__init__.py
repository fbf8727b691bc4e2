"""Adapters to the data types of other libraries. They are optional, and nothing else in the package imports them."""
