"""The generalized Gauss-Newton matrix of many rows in few large products."""

from typing import Any

from keras_extras._core.probability import tf


def gauss_newton(
    information: Any,
    jacobian: Any | None,
    kernel: Any | None,
    features: Any | None,
    is_diagonal: bool,
) -> Any:
    """Returns the sum over rows of `J^T F J`, or its diagonal.

    The derivatives `J` of outputs are `jacobian` for the first weights, or `kernel` times it, and
    `features` for those of a last Dense layer, whose kernel and bias follow row by row.

    Args:
        information: Tensor of shape `(rows, outputs, outputs)`, the matrices `F`.
        jacobian: Tensor of shape `(rows, entries, weights)`; None without such weights.
        kernel: Tensor of shape `(entries, outputs)`; None for outputs as entries.
        features: Tensor of shape `(rows, features)`; None without a last Dense layer.
        is_diagonal: Boolean.
    """
    blocks = []
    if jacobian is not None:
        left = information if kernel is None else tf.einsum("rk,nkl->nrl", kernel, information)
        inner = left if kernel is None else tf.einsum("nrl,ql->nrq", left, kernel)
        scaled = tf.matmul(inner, jacobian)
        blocks.append(
            tf.einsum("nrd,nrd->d", jacobian, scaled)
            if is_diagonal
            else tf.einsum("nrd,nre->de", jacobian, scaled)
        )
    if features is None:
        return blocks[0]
    blocks.append(_of_dense(information, features, is_diagonal))
    if len(blocks) == 1:
        return blocks[0]
    if is_diagonal:
        return tf.concat(blocks, axis=0)
    # (weights, outputs) of each row, then the outer product with the features.
    by_outputs = tf.matmul(jacobian, left, transpose_a=True)
    mixed = tf.einsum("ndl,ni->dil", by_outputs, features)
    mixed = tf.reshape(mixed, (tf.shape(jacobian)[2], -1))
    return tf.concat(
        [
            tf.concat([blocks[0], mixed], axis=1),
            tf.concat([tf.linalg.matrix_transpose(mixed), blocks[1]], axis=1),
        ],
        axis=0,
    )


def _of_dense(information, features, is_diagonal):
    """The matrix of the last Dense layer: the sum of `a a^T` and `F` as Kronecker factors."""
    num_features, num_outputs = features.shape[1], information.shape[1]
    if is_diagonal:
        diagonal = tf.linalg.diag_part(information)
        return tf.reshape(tf.matmul(tf.square(features), diagonal, transpose_a=True), [-1])
    squares = tf.reshape(features[:, :, None] * features[:, None, :], (-1, num_features**2))
    products = tf.matmul(squares, tf.reshape(information, (-1, num_outputs**2)), transpose_a=True)
    size = num_features * num_outputs
    products = tf.reshape(products, (num_features, num_features, num_outputs, num_outputs))
    return tf.reshape(tf.transpose(products, (0, 2, 1, 3)), (size, size))
