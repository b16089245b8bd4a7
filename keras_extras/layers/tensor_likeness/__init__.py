"""What makes an object a tensor to Keras and its backend, of each backend."""
