"""Layers around a network that train it by its derivatives."""
