"""GradientEntry: one derivative, computed in two ways."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GradientEntry:
    """A derivative by backpropagation beside the one by central differences.

    Attributes:
        path: String, the path of a variable, or `"inputs"`.
        index: Tuple of integers, the place of the entry; `None` for a direction that moves all of
            the entries.
        analytic: Float, by backpropagation.
        numeric: Float, by central differences.
        error: Float, their difference divided by the greater of the two, or by what rounding
            makes of a difference if that is more.

    Example:

    ```python
    from keras_extras import autodiff

    entry = autodiff.GradientEntry("dense/kernel", (0, 2), 0.5, 0.25, 0.5)
    print(entry)  # dense/kernel[0, 2]: analytic 0.5, numeric 0.25, error 0.5
    ```
    """

    path: str
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    error: float

    def __str__(self) -> str:
        place = "along a direction" if self.index is None else str(list(self.index))
        separator = " " if self.index is None else ""
        return (
            f"{self.path}{separator}{place}: analytic {self.analytic:.9g}, "
            f"numeric {self.numeric:.9g}, error {self.error:.2g}"
        )
