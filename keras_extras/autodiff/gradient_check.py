"""GradientCheck: what a comparison of gradients with central differences found."""

import dataclasses

from keras_extras.autodiff.gradient_entry import GradientEntry

_NUM_SHOWN = 5


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
            the target is a model of which that can be told.
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
