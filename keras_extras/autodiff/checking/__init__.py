"""The gradient check: backpropagation compared with central differences."""
