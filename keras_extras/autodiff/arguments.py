"""Arguments that the functions of derivatives share, for their docstrings."""

from keras_extras._core.docstrings import fill_text

DATA = """
    model: Keras model or layer.
    x: Inputs, an array or a structure of arrays with one row for each example.
    """
LOSS = """
    loss: The loss, in any form that `model.compile` takes; `None` for the loss that the model
        was compiled with. Defaults to `None`.
    penalties: Boolean, whether regularizers and losses that layers add count where `loss` is
        given. Defaults to `True`.
    """
WRT = """
    wrt: With respect to what: `"weights"`, those that are trained, `"inputs"`, `"both"`, or one
        of several inputs, by its name or position. Defaults to `"weights"`.
    """
TRAINING = """
    training: Boolean, as in `gradient`. Defaults to `False`.
    """
# Of the products of second derivatives and a vector.
PRODUCT = fill_text(
    """
    {data}
    y: Targets; `None` if the loss needs none.
    vector: The vector that is multiplied, in the form of the result.
    {loss}
    {wrt}
    sample_weight: Weights of the rows, as in `fit`. Defaults to `None`.
    {training}
    batch_size: Integer, rows to compute at once, as in `gradient`; `None` for all. Defaults to
        `None`.
    """,
    data=DATA,
    loss=LOSS,
    wrt=WRT,
    training=TRAINING,
)
IN_FORM_OF_GRADIENT = """
    Of weights, a list of tensors aligned with `model.trainable_variables`; of inputs, a
    structure like `x`; of both, a `WeightsAndInputs`.
    """
# Of the products of the derivatives of outputs and a vector.
RAISES_OF_OUTPUTS = """
    Raises:
        TypeError: If `model` is no Keras model or layer.
        ValueError: If `vector` has other shapes, or inputs to differentiate are integers.
    """
