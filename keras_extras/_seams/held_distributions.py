"""Private methods that TFP calls on a distribution that another one holds.

Defined are the methods that TFP calls from outside although they are private to `tfd.Distribution`:
`_name_and_control_scope` in its `kl_divergence`, and `_parameter_control_dependencies` and
`_sample_control_dependencies` in `tfd.BatchBroadcast`. Those of the base class know no parameters
of the distribution that the output of a layer stands for. Known to hold since TensorFlow
Probability 0.25. Public methods in their place would make it unnecessary.
"""

from typing import Any


class HeldDistribution:
    """A distribution that answers with what `tensor_distribution` answers."""

    tensor_distribution: Any

    def _parameter_control_dependencies(self, *args, **kwargs):
        return self.tensor_distribution._parameter_control_dependencies(*args, **kwargs)

    def _sample_control_dependencies(self, *args, **kwargs):
        return self.tensor_distribution._sample_control_dependencies(*args, **kwargs)

    def _name_and_control_scope(self, *args, **kwargs):
        return self.tensor_distribution._name_and_control_scope(*args, **kwargs)
