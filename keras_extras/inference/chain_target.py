"""ChainTarget: the posterior of a model's weights as the target of Markov chains."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.flat_vectors import flat_rows, split_entries
from keras_extras.inference.markov_chains import MarkovChains
from keras_extras.inference.weight_function import WeightFunction
from keras_extras.inference.weight_priors import WeightPriors


class ChainTarget:
    """The density of a model's weights as one vector, and the compiled chains that draw from it."""

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        prior: Any,
        likelihood: Callable | None,
        settings: Mapping[str, Any],
    ):
        self.function = WeightFunction(model, x, likelihood)
        _check_precision(self.function.variables)
        self.priors = WeightPriors(prior, self.function.variables)
        self.shapes = [tuple(variable.shape) for variable in self.function.variables]
        self.chains = MarkovChains(
            self.log_prob, **settings, variables=model.non_trainable_variables
        )

    def split(self, vectors: Any) -> list[Any]:
        """From `(..., size)` to tensors of the weights' shapes."""
        return split_entries(vectors, self.shapes)

    def log_prob(self, vector: Any, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """Returns the logarithm of the density, which is not normalized, a scalar."""
        weights = self.split(vector)
        likelihood = self.function.log_likelihood(weights, x, y, sample_weight)
        return likelihood + self.priors.log_prob(weights)

    def start(
        self,
        initial: str | Sequence[np.ndarray],
        num_chains: int,
        generator: np.random.Generator,
    ) -> Any:
        """Returns where chains start, of shape `(num_chains, size)`."""
        if not isinstance(initial, str):
            draws = [np.asarray(values, "float32") for values in initial]
            expected = [(num_chains, *shape) for shape in self.shapes]
            if [draw.shape for draw in draws] != expected:
                raise ValueError(
                    f"`initial` must have arrays of the shapes {expected}. "
                    f"Received: {[draw.shape for draw in draws]}"
                )
        else:
            draws = self.priors.sample(num_chains, self.shapes, generator)
        if isinstance(initial, str) and initial == "weights":
            # Apart from each other by a little of the prior, so that chains can be compared.
            draws = [v + 0.01 * draw for v, draw in zip(self.function.variables, draws)]
        return flat_rows(list(map(ops.convert_to_tensor, draws)))


def _check_precision(variables):
    others = {v.path: v.dtype for v in variables if v.dtype != "float32"}
    if others:
        raise ValueError(
            "Chains are computed in single precision: the weights of the model must be float32. "
            f"Received: {others}"
        )
