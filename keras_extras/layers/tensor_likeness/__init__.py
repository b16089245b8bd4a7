"""Objects that Keras and its backend take for tensors, one module for each backend."""
