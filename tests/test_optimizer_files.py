"""Optimizers in files: the state comes back, or Keras says that it starts afresh."""
