"""Posterior: draws of a model's weights, and what can be done with them."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_extras._core.checks import check_integer
from keras_extras._core.files import read_arrays, whole_file
from keras_extras._core.optimizers import optimizer_of
from keras_extras._core.optional import import_optional
from keras_extras._core.paths import unique_paths
from keras_extras.inference.observations import observations
from keras_extras.inference.predict_distribution import draw_parameters, numpy_generator
from keras_extras.inference.weight_function import WeightFunction


class Posterior:
    """Draws of the trainable weights of a model from their posterior.

    Args:
        model: The Keras model, whose own weights are not used.
        samples: Arrays of shape `(chains, draws, *shape)`, one for each of
            `model.trainable_variables`.
        sample_stats: Dict of arrays of shape `(chains, draws)`, such as `"diverging"`, by the names
            that ArviZ has for them. Defaults to `None`.
        likelihood: Function from the outputs of the model to a `tfd.Distribution`; `None` for a
            model whose last layer is one of distributions. Defaults to `None`.
        step_size: Float, the step size that chains ended with. Defaults to `None`.
        scales: Arrays like the weights, the scales that it is in units of. Defaults to `None`.

    Raises:
        ValueError: If the samples do not fit the model.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import inference, layers

    model = keras.Sequential([
        keras.Input((1,)),
        keras.layers.Dense(2, use_bias=False),
        layers.IndependentNormal(1),
    ])
    samples = [np.random.default_rng(0).normal(size=(4, 100, 1, 2))]
    posterior = inference.Posterior(model, samples)
    posterior.predict_distribution(np.ones((3, 1))).epistemic_variance()  # of each row
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        samples: Sequence[np.ndarray],
        sample_stats: Mapping[str, np.ndarray] | None = None,
        likelihood: Callable | None = None,
        step_size: float | None = None,
        scales: Sequence[np.ndarray] | None = None,
    ):
        self.model = model
        self.step_size = step_size
        self.scales = scales
        self.samples = [np.asarray(values) for values in samples]
        self.sample_stats = dict(sample_stats or {})
        self.likelihood = likelihood
        expected = [tuple(variable.shape) for variable in model.trainable_variables]
        received = [values.shape[2:] for values in self.samples]
        sizes = {values.shape[:2] for values in self.samples}
        if expected != received or len(sizes) != 1:
            raise ValueError(
                f"`samples` must have shapes (chains, draws, *shape) for the shapes {expected} of "
                f"the trainable weights of {model.name!r}. "
                f"Received: {[values.shape for values in self.samples]}"
            )

    @classmethod
    def from_optimizer(cls, model: keras.Model, likelihood: Callable | None = None) -> "Posterior":
        """The samples that `SGLD` or `CyclicalSGLD` collected in `fit`, as one chain.

        Args:
            model: The model, compiled with the optimizer and fitted.
            likelihood: As of `Posterior`. Defaults to `None`.
        """
        optimizer = optimizer_of(model)
        if optimizer is None or not hasattr(optimizer, "samples"):
            raise TypeError(
                "The model must be compiled with an optimizer that collects samples, such as "
                f"`keras_extras.optimizers.SGLD()`. Received: optimizer={optimizer!r}"
            )
        return cls(model, [values[None] for values in optimizer.samples()], likelihood=likelihood)

    @property
    def num_chains(self) -> int:
        """How many chains there are."""
        return self.samples[0].shape[0]

    @property
    def num_results(self) -> int:
        """How many draws there are of each chain."""
        return self.samples[0].shape[1]

    @property
    def energy_variance(self) -> float | None:
        """The mean squared error of the energy in a step, per weight, of chains of `"mclmc"`.

        They have no accept step, and their draws a bias that grows with it. `None` for others.
        """
        values = self.sample_stats.get("energy_variance")
        return None if values is None else float(np.mean(values))

    def predict_distribution(
        self, x: Any, num_samples: int = 100, batch_size: int = 256, seed: int | None = None
    ) -> Any:
        """Returns the posterior predictive distribution.

        Its components are in the order of the chains, and in each chain in that of the draws: with
        `num_samples=num_chains * num_results`, the means `components_distribution.mean()`, of shape
        `(n, num_samples, ...)`, can be reshaped to `(n, num_chains, num_results, ...)` for R-hat.

        Args:
            x: Inputs, an array of shape `(n, ...)` or a structure of arrays.
            num_samples: Integer, how many of the draws to use, evenly spaced over all chains, at
                most all. Defaults to `100`.
            batch_size: Integer, rows to compute at once. Defaults to `256`.
            seed: Not used: nothing is drawn. There for `keras_extras.predict_distribution`.
                Defaults to `None`.

        Returns:
            A `keras_extras.inference.PosteriorPredictive`.
        """
        from keras_extras.inference.posterior_predictive import predictive_of

        total = self.num_chains * self.num_results
        count = min(check_integer("num_samples", num_samples), total)
        chosen = np.linspace(0, total - 1, count).round().astype(int)
        weights = [values.reshape(total, *values.shape[2:])[chosen] for values in self.samples]
        function = WeightFunction(self.model, x, self.likelihood, require_likelihood=False)
        generator = numpy_generator(seed)
        return predictive_of(
            function, draw_parameters(function, x, weights, count, batch_size, generator)
        )

    def to_arviz(self, x: Any = None, y: Any = None, batch_size: int = 256) -> Any:
        """Returns an `arviz.InferenceData` with groups `posterior` and `sample_stats`.

        Variables have the paths of the model's, in which `/` separates layers. Where several have
        one path, those after the first get a number behind it. With data there is a group
        `log_likelihood` with a value for each row, by which `arviz.loo` and `arviz.waic` compare
        models.

        Args:
            x: Inputs, an array of shape `(n, ...)` or a structure of arrays; `None` for no data.
                Defaults to `None`.
            y: Targets, an array with `n` rows. Defaults to `None`.
            batch_size: Integer, rows to compute at once, for all draws. Defaults to `256`.

        Raises:
            ImportError: If ArviZ is not installed.
            ValueError: If only one of `x` and `y` is given, or they do not fit the model.
        """
        arviz = import_optional("arviz", "inference", "`Posterior.to_arviz`")
        if (x is None) != (y is None):
            raise ValueError(
                f"`x` and `y` must be given together. Received: {'x' if y is None else 'y'} only"
            )
        log_likelihood = None if x is None else {"y": self._log_likelihood(x, y, batch_size)}
        return arviz.from_dict(
            posterior=dict(zip(self._paths(), self.samples, strict=True)),
            sample_stats=self.sample_stats or None,
            log_likelihood=log_likelihood,
        )

    def _log_likelihood(self, x, y, batch_size):
        """The logarithm of the likelihood of each row, of shape `(chains, draws, n)`."""
        function = WeightFunction(self.model, x, self.likelihood)
        x, y = observations(function, x, y)
        total = self.num_chains * self.num_results
        weights = [values.reshape(total, *values.shape[2:]) for values in self.samples]
        generator = numpy_generator(0)  # of seeds for random layers, which chains do not have
        parameters = draw_parameters(function, x, weights, total, batch_size, generator)
        log_probs = function.distribution(parameters).log_prob(y)
        return np.reshape(log_probs, (self.num_chains, self.num_results, len(y)))

    def summary(self, **kwargs: Any) -> Any:
        """Returns ArviZ's table of means, intervals, effective sample sizes and R-hat.

        Args:
            **kwargs: Of `arviz.summary`, such as `kind="diagnostics"` and `var_names`.

        Returns:
            A `pandas.DataFrame` with a row for each weight; its attributes are
            `attrs["divergences"]`, the number of transitions that diverged, and
            `attrs["energy_variance"]`, as the property.
        """
        arviz = import_optional("arviz", "inference", "`Posterior.summary`")
        table = arviz.summary(self.to_arviz(), **kwargs)
        table.attrs["divergences"] = int(np.sum(self.sample_stats.get("diverging", 0)))
        table.attrs["energy_variance"] = self.energy_variance
        return table

    def save(self, path: str | os.PathLike) -> None:
        """Writes the draws, without the model, to a `.npz` file.

        Args:
            path: Where to; an existing file is replaced once the new one is complete.
        """
        arrays: dict[str, Any] = {
            f"samples/{name}": v for name, v in zip(self._paths(), self.samples, strict=True)
        }
        arrays |= {f"sample_stats/{name}": v for name, v in self.sample_stats.items()}
        if self.scales is not None:
            arrays["adaptation/step_size"] = self.step_size
            arrays |= {f"adaptation/scale_{n}": part for n, part in enumerate(self.scales)}
        with whole_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(
        cls, path: str | os.PathLike, model: keras.Model, likelihood: Callable | None = None
    ) -> "Posterior":
        """Reads what `save` wrote.

        Args:
            path: The file.
            model: The model that the draws are of, or one like it.
            likelihood: As of `Posterior`. Defaults to `None`.

        Raises:
            ValueError: If the file is no such file or does not fit the model.
        """
        arrays = read_arrays(path, "a file that `Posterior.save` wrote")
        groups: dict[str, dict] = {"samples": {}, "sample_stats": {}, "adaptation": {}}
        for name, values in arrays.items():
            group, _, key = name.partition("/")
            groups.setdefault(group, {})[key] = values
        adaptation = groups["adaptation"]
        step_size = adaptation.pop("step_size", None)
        return cls(
            model,
            list(groups["samples"].values()),
            groups["sample_stats"],
            likelihood,
            None if step_size is None else float(step_size),
            list(adaptation.values()) or None,
        )

    def _paths(self):
        return unique_paths(self.model.trainable_variables)
