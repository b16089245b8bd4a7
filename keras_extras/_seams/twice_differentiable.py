"""TensorFlow functions with wrong or missing second derivatives, in a form that has them.

Replaced are `tf.nn.moments`, `tf.nn.softsign` and `tf.image.resize`, which layers of Keras call and
have no argument for. Seen in TensorFlow 2.21. Right second derivatives of the three make this file
unnecessary.
"""

import contextlib
from typing import Any

import tensorflow as tf

from keras_extras._seams.thread_replacement import ThreadReplacement

_resize = tf.image.resize


def twice_differentiable() -> contextlib.AbstractContextManager[None]:
    """Within it, Keras' layers on TensorFlow have the right second derivatives.

    They take mean and variance from `tf.nn.moments`, which stops the gradient of the mean inside
    the variance. That changes no first derivative, because it is zero there, but every second one.
    They resize images by `tf.image.resize`, whose gradient has a gradient of none or raises, and so
    does that of `tf.nn.softsign`.
    """
    return _functions.within()


def _places():
    places = [(tf.nn, "moments", _moments), (tf.nn, "softsign", _softsign)]
    places += [(tf.image, "resize", _resized)]
    return [
        (module, name, lambda _, function=function: function) for module, name, function in places
    ]


_functions = ThreadReplacement("twice_differentiable", _places)


def _moments(x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: Any = None):
    x = tf.convert_to_tensor(x)
    wide = tf.cast(x, tf.float32) if x.dtype == tf.float16 else x
    mean = tf.reduce_mean(wide, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(wide - mean), axes, keepdims=keepdims)
    mean = mean if keepdims else tf.reshape(mean, tf.shape(variance))
    return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


def _softsign(features: Any, name: Any = None):
    features = tf.convert_to_tensor(features)
    return features / (1 + tf.abs(features))


def _resized(
    images: Any,
    size: Any,
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
    name: Any = None,
):
    """`tf.image.resize` as two products of matrices, one for each axis; double precision stays."""
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating:
        return _resize(images, size, method, preserve_aspect_ratio, antialias, name)
    if preserve_aspect_ratio:
        size = tf.shape(_resize(images, size, method, True, antialias))[-3:-1]
    wide = tf.cast(images, tf.float32) if images.dtype.size < 4 else images
    lengths = tf.get_static_value(tf.convert_to_tensor(size, tf.int32), partial=True)
    for place, (axis, equation) in enumerate(
        ((-3, "...hwc,hp->...pwc"), (-2, "...hwc,wp->...hpc"))
    ):
        old = tf.shape(images)[axis] if images.shape[axis] is None else images.shape[axis]
        new = size[place] if lengths is None or lengths[place] is None else int(lengths[place])
        matrix = _resizing_matrix(old, new, method, antialias)
        wide = tf.einsum(equation, wide, tf.cast(matrix, wide.dtype))
    return tf.cast(wide, images.dtype) if method == "nearest" else wide


def _resizing_matrix(old, new, method, antialias):
    """The matrix that resizes one axis, found from images with a single bright pixel."""
    is_static = isinstance(old, int) and isinstance(new, int)
    # A constant of what is compiled, because XLA lacks some of the operations.
    with tf.init_scope() if is_static else contextlib.nullcontext():
        pixels = tf.eye(old)[:, :, None, None]
        return _resize(pixels, (new, 1), method, antialias=antialias)[:, :, 0, 0]
