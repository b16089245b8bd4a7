"""Layers whose weights have a distribution, one class a file."""
