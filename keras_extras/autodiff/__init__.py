"""Derivatives of models, and of their training."""

__all__ = []
