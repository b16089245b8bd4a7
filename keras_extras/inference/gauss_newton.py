"""The generalized Gauss-Newton matrix of many rows in few large products."""

from typing import Any

from keras import ops


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
        left = information if kernel is None else ops.einsum("rk,nkl->nrl", kernel, information)
        inner = left if kernel is None else ops.einsum("nrl,ql->nrq", left, kernel)
        scaled = ops.matmul(inner, jacobian)
        blocks.append(
            ops.einsum("nrd,nrd->d", jacobian, scaled)
            if is_diagonal
            else ops.einsum("nrd,nre->de", jacobian, scaled)
        )
    if features is None:
        return blocks[0]
    blocks.append(_of_dense(information, features, is_diagonal))
    if len(blocks) == 1:
        return blocks[0]
    if is_diagonal:
        return ops.concatenate(blocks, axis=0)
    # (weights, outputs) of each row, then the outer product with the features.
    by_outputs = ops.matmul(ops.swapaxes(jacobian, -1, -2), left)
    mixed = ops.einsum("ndl,ni->dil", by_outputs, features)
    mixed = ops.reshape(mixed, (ops.shape(jacobian)[2], -1))
    return ops.concatenate(
        [
            ops.concatenate([blocks[0], mixed], axis=1),
            ops.concatenate([ops.transpose(mixed), blocks[1]], axis=1),
        ],
        axis=0,
    )


def _of_dense(information, features, is_diagonal):
    """The matrix of the last Dense layer: the sum of `a a^T` and `F` as Kronecker factors."""
    num_features, num_outputs = features.shape[1], information.shape[1]
    if is_diagonal:
        diagonal = ops.diagonal(information, axis1=-2, axis2=-1)
        return ops.reshape(ops.matmul(ops.transpose(ops.square(features)), diagonal), (-1,))
    squares = ops.reshape(features[:, :, None] * features[:, None, :], (-1, num_features**2))
    products = ops.matmul(ops.transpose(squares), ops.reshape(information, (-1, num_outputs**2)))
    size = num_features * num_outputs
    products = ops.reshape(products, (num_features, num_features, num_outputs, num_outputs))
    return ops.reshape(ops.transpose(products, (0, 2, 1, 3)), (size, size))
