"""GradientCheck: the result of a comparison of gradients with central differences."""

import dataclasses

_NUM_SHOWN = 5


@dataclasses.dataclass(frozen=True)
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


@dataclasses.dataclass(frozen=True, repr=False)
class GradientCheck:
    """The report of `check_gradients`; printed, it shows the worst entries.

    Args:
        entries: List of `GradientEntry`s that were compared, the worst first.
        kinks: List of `GradientEntry`s at which there is no derivative, as at 0 of a ReLU: slopes
            to both sides differ, and the gradient lies between them. They count as right.
        without_gradient: List of strings, the variables and inputs with which the value changes
            although they have no gradient, or a gradient of zero while it changes in steps.
        blocking_layers: List of strings, the names of the layers that let no gradient through, if
            the target is a model of which that is known.
        held_fixed: List of strings, the paths of the moving statistics and states of random
            layers that a call would change; they were the same in every evaluation.
        tolerance: Float, the greatest error that passes.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    report = autodiff.check_gradients(keras.layers.Dense(2, "tanh"), np.ones((3, 4)))
    assert report.passed, report
    print(report.max_error, report.worst[0])
    ```
    """

    entries: list[GradientEntry]
    kinks: list[GradientEntry]
    without_gradient: list[str]
    blocking_layers: list[str]
    held_fixed: list[str]
    tolerance: float

    @property
    def max_error(self) -> float:
        """The greatest error of all entries."""
        return max((entry.error for entry in self.entries), default=0.0)

    @property
    def worst(self) -> list[GradientEntry]:
        """The entries with the greatest errors."""
        return self.entries[:_NUM_SHOWN]

    @property
    def passed(self) -> bool:
        """Whether all errors are within the tolerance, and nothing lacks a gradient."""
        return self.max_error <= self.tolerance and not self.without_gradient

    def __repr__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        lines = [
            f"Gradient check {verdict}: greatest error {self.max_error:.2g} of "
            f"{len(self.entries)} derivatives, tolerance {self.tolerance:.2g}",
            *(f"  {entry}" for entry in self.worst),
        ]
        for title, names in (
            ("No gradient, although the value changes", self.without_gradient),
            ("Layers that let no gradient through", self.blocking_layers),
            ("Kinks, at which there is no derivative", self.kinks[:_NUM_SHOWN]),
            ("Held fixed", self.held_fixed),
        ):
            if names:
                lines.append(f"{title}: {'; '.join(map(str, names))}")
        return "\n".join(lines)
