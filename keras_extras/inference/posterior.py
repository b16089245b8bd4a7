"""Posterior: draws of a model's weights, and what can be done with them."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_extras._core.batch_statistics import batch_statistics
from keras_extras._core.checks import check_integer
from keras_extras._core.files import read_arrays, whole_file
from keras_extras._core.optimizers import optimizer_of
from keras_extras._core.optional import import_optional
from keras_extras._core.paths import unique_paths
from keras_extras.callbacks.swag import SWAG
from keras_extras.inference.observations import observations
from keras_extras.inference.predict_distribution import (
    draw_parameters,
    known_seed,
    numpy_generator,
)
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
        statistics: Arrays of shape `(chains, draws, *shape)`, the moving mean and variance of each
            `BatchNormalization` that training changes, for each draw; empty for those of the
            model. Defaults to `()`.

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
        statistics: Sequence[np.ndarray] = (),
    ):
        self.model = model
        self.step_size = step_size
        self.scales = scales
        self.samples = [np.asarray(values) for values in samples]
        self.sample_stats = dict(sample_stats or {})
        self.likelihood = likelihood
        self.statistics = [np.asarray(values) for values in statistics]
        expected = [tuple(variable.shape) for variable in model.trainable_variables]
        received = [values.shape[2:] for values in self.samples]
        sizes = {values.shape[:2] for values in self.samples + self.statistics}
        if self.statistics:
            expected += [tuple(variable.shape) for variable in batch_statistics(model)]
            received += [values.shape[2:] for values in self.statistics]
        if expected != received or len(sizes) != 1:
            raise ValueError(
                f"`samples` must have shapes (chains, draws, *shape) for the shapes {expected} of "
                f"the trainable weights of {model.name!r}"
                f"{' and the statistics of its batches' * bool(self.statistics)}. "
                f"Received: {[values.shape for values in self.samples + self.statistics]}"
            )

    @classmethod
    def from_optimizer(
        cls,
        model: keras.Model,
        likelihood: Callable | None = None,
        num_draws: int | None = None,
        seed: int | None = None,
    ) -> "Posterior":
        """Returns the posterior that an optimizer learned in `fit`, as one chain.

        Its draws are the samples that `SGLD` or `CyclicalSGLD` collected, or are taken from the
        normal posterior of `IVON`.

        Args:
            model: The model, compiled with the optimizer and fitted.
            likelihood: As of `Posterior`. Defaults to `None`.
            num_draws: Integer, how many draws to take, for `IVON` only. Defaults to `None`: 100.
            seed: Integer seed of these draws; `None` follows `keras.utils.set_random_seed`.
                Defaults to `None`.
        """
        optimizer = optimizer_of(model)
        if hasattr(optimizer, "stddevs"):
            generator = numpy_generator(seed)
            count = check_integer("num_draws", 100 if num_draws is None else num_draws)
            samples = [
                keras.ops.convert_to_numpy(mean)
                + stddev * generator.normal(size=(count, *stddev.shape)).astype(stddev.dtype)
                for mean, stddev in zip(model.trainable_variables, optimizer.stddevs())
            ]
        elif hasattr(optimizer, "samples"):
            if num_draws is not None or seed is not None:
                raise ValueError(
                    f"`num_draws` and `seed` are for posteriors that are drawn from; "
                    f"{type(optimizer).__name__} has kept samples, all of which are taken. "
                    f"Received: num_draws={num_draws!r}, seed={seed!r}"
                )
            samples = optimizer.samples()
        else:
            raise TypeError(
                "The model must be compiled with an optimizer that learns a posterior, such as "
                f"`keras_extras.optimizers.SGLD()` or `IVON()`. Received: optimizer={optimizer!r}"
            )
        return cls(model, [values[None] for values in samples], likelihood=likelihood)

    @classmethod
    def from_callback(
        cls,
        swag: Any,
        num_draws: int = 100,
        x: Any = None,
        likelihood: Callable | None = None,
        batch_size: int = 256,
        seed: int | None = None,
    ) -> "Posterior":
        """Draws of the normal posterior that `callbacks.SWAG` collected in `fit`, as one chain.

        Args:
            swag: The callback.
            num_draws: Integer, how many draws to take. Defaults to `100`.
            x: Training inputs, an array of shape `(n, ...)` or a structure of arrays, which the
                moving statistics of `BatchNormalization` are renewed with for each draw. Defaults
                to `None`, for models without such layers.
            likelihood: As of `Posterior`. Defaults to `None`.
            batch_size: Integer, rows of a batch whose statistics are taken. Defaults to `256`.
            seed: Integer seed of the draws; `None` follows `keras.utils.set_random_seed`. Defaults
                to `None`.

        Raises:
            TypeError: If `swag` is no such callback.
            ValueError: If it collected fewer than 2 snapshots, or `x` is missing.
        """
        if not isinstance(swag, SWAG):
            raise TypeError(
                "`swag` must be a `keras_extras.callbacks.SWAG` that was in `callbacks` of `fit`. "
                f"Received: swag={swag!r}"
            )
        draws = swag.draw(check_integer("num_draws", num_draws), numpy_generator(seed))
        statistics = swag.statistics(list(zip(*draws)), x, batch_size)
        samples, statistics = ([values[None] for values in part] for part in (draws, statistics))
        return cls(swag.model, samples, likelihood=likelihood, statistics=statistics)

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
        from keras_extras.inference.conformal_prediction import remember_predictor
        from keras_extras.inference.posterior_predictive import predictive_of

        total = self.num_chains * self.num_results
        count = min(check_integer("num_samples", num_samples), total)
        chosen = np.linspace(0, total - 1, count).round().astype(int)
        weights = [values[chosen] for values in self._flat_draws()]
        function = WeightFunction(
            self.model, x, self.likelihood, False, statistics=self._statistics_of_model()
        )
        seed = known_seed(seed)
        prediction = predictive_of(
            function,
            draw_parameters(function, x, weights, count, batch_size, numpy_generator(seed)),
        )
        predict = partial(
            self.predict_distribution, num_samples=count, batch_size=batch_size, seed=seed
        )
        return remember_predictor(prediction, predict, x)

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
        function = WeightFunction(
            self.model, x, self.likelihood, statistics=self._statistics_of_model()
        )
        x, y = observations(function, x, y)
        total = self.num_chains * self.num_results
        weights = self._flat_draws()
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
        arrays |= {f"statistics/{n}": values for n, values in enumerate(self.statistics)}
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
        names = ("samples", "sample_stats", "adaptation", "statistics")
        groups: dict[str, dict] = {name: {} for name in names}
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
            list(groups["statistics"].values()),
        )

    def _flat_draws(self):
        """The draws of all chains, statistics after weights."""
        total = self.num_chains * self.num_results
        arrays = [*self.samples, *self.statistics]
        return [values.reshape(total, *values.shape[2:]) for values in arrays]

    def _statistics_of_model(self):
        return batch_statistics(self.model) if self.statistics else ()

    def _paths(self):
        return unique_paths(self.model.trainable_variables)
