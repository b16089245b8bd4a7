"""IndependentStudentT: Student's t distributions of entries."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.head import positive_scale
from keras_extras.layers.heads.independent_head import IndependentHead, sections


@serializable
@fill_docstring(sections=sections("IndependentStudentT", "[[0.0, 1.0, 0.0]]", "mean()  # 1.0"))
class IndependentStudentT(IndependentHead):
    """Student's t distributions of entries: normal in the middle, with tails for outliers.

    ```
    density(y) ~ (1 + z**2 / df)**(-(df + 1) / 2) / scale, z = (y - loc) / scale
    df = 2 + softplus(raw df)
    scale = max(softplus(raw scale), 1e-5)
    ```

    The thirds of the inputs are the raw degrees of freedom, the locations and the raw scales.
    With more than 2 degrees of freedom mean and variance exist.

    {sections}
    """

    params_per_entry = 3

    @staticmethod
    def entries(raw_df: Any, loc: Any, raw_scale: Any, validate_args: bool) -> Any:
        """Returns the distribution of the entries, of event shape `()`."""
        df, scale = 2.0 + ops.softplus(raw_df), positive_scale(raw_scale)
        return tfd.StudentT(df, loc, scale, validate_args=validate_args)
