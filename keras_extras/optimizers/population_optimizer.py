"""PopulationOptimizer: the base of optimizers that compare candidates for the weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice, check_integer
from keras_extras.optimizers.loss_evaluating import LossEvaluatingOptimizer
from keras_extras.optimizers.population import best_of, evaluate_population
from keras_extras.optimizers.priors import Prior
from keras_extras.optimizers.search_space import (
    Parameter,
    check_patterns,
    check_transform,
    match_patterns,
)

_AVERAGING_POWER = 8.0


class PopulationOptimizer(LossEvaluatingOptimizer):
    """Base class of optimizers that evaluate a population of candidates on each batch.

    It brings what does not depend on how candidates are drawn: coordinates by transform, starts
    from priors, evaluation in chunks, and which weights are kept. A subclass overrides
    `build_search` for its state and `generation` for one round of candidates.
    """

    def __init__(
        self,
        learning_rate: Any,
        priors: Mapping[str, Prior] | None,
        transforms: Mapping[str, Callable[[Any], Any]] | None,
        generations_per_batch: int,
        prior_samples: int,
        keep: str,
        chunk_size: int | None,
        seed: int | None,
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.priors = check_patterns("priors", priors, Prior, "a prior, such as Normal(0.0, 1.0)")
        self.transforms = check_patterns("transforms", transforms, Callable, "a function")
        self.generations_per_batch = check_integer("generations_per_batch", generations_per_batch)
        self.prior_samples = check_integer("prior_samples", prior_samples, minimum=0)
        if self.prior_samples and not self.priors:
            raise ValueError(
                "`prior_samples` needs `priors` to draw from, e.g. "
                f'priors={{"*": Normal(0.0, 0.1)}}. Received: prior_samples={prior_samples}'
            )
        self.keep = check_choice("keep", keep, ("average", "mean", "best"))
        if self.use_ema and keep != "mean":
            raise ValueError(
                "`use_ema` is another choice of which weights are kept, and needs keep='mean'. "
                f"Received: use_ema=True, keep={keep!r}"
            )
        self.chunk_size = None if chunk_size is None else check_integer("chunk_size", chunk_size)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._seed_state = self.seed_generator.state  # tracked: saved with the optimizer

    def build_search(self, coordinates: Sequence[keras.Variable]) -> None:
        """Adds the variables of the search; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override `build_search`.")

    def generation(self, loss_at: Callable[[Sequence[Any]], Any]) -> tuple[list[Any], Any]:
        """Draws candidates, evaluates them and moves the search; to be overridden.

        Args:
            loss_at: Function from coordinates, a tensor for each of `self.parameters`, to the
                scalar loss of the batch.

        Returns:
            The candidates, tensors of shape `(population, ...)`, and their losses.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `generation`.")

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        variables = list(variables)
        priors = match_patterns("priors", self.priors, variables)
        transforms = match_patterns("transforms", self.transforms, variables)
        self.parameters = [
            self._parameter(variable, transform, prior)
            for variable, transform, prior in zip(variables, transforms, priors)
        ]
        coordinates = [p.coordinates for p in self.parameters]
        super().build(coordinates)
        self.build_search(coordinates)

    def _parameter(self, variable, transform, prior):
        if transform is not None:
            check_transform(transform, variable)
        coordinates = kept = variable
        if transform is not None or self.keep != "mean":
            coordinates = kept = self.add_variable_from_reference(variable, "coordinates")
        if self.keep != "mean":
            coordinates = self.add_variable_from_reference(variable, "mean")
        return Parameter(variable, coordinates, kept, transform, prior)

    def search(self, loss_of, variables) -> None:
        if [id(v) for v in variables] != [id(p.variable) for p in self.parameters]:
            raise ValueError(
                f"{self.name} was built for other variables; make a new optimizer for these. "
                f"Received: {', '.join(repr(v.path) for v in variables)}. Built for: "
                f"{', '.join(repr(p.variable.path) for p in self.parameters)}"
            )
        for p in self.parameters:
            p.pull()

        def loss_at(coordinates):
            return loss_of([p.to_values(u) for p, u in zip(self.parameters, coordinates)])

        if self.prior_samples:
            ops.cond(
                ops.equal(self.iterations, 0),
                lambda: self._start_from_priors(loss_at),
                lambda: None,
            )
        for _ in range(self.generations_per_batch):
            candidates, losses = self.generation(loss_at)
            for p in self.parameters:
                p.project()
            if self.keep == "best":
                self._keep_best(loss_at, candidates, losses)
            elif self.keep == "average":
                self._keep_average()
        for p in self.parameters:
            p.push()

    def evaluate(self, loss_at: Callable, candidates: Sequence[Any]) -> Any:
        """Returns the losses of candidates, NaN where not finite, and counts these."""
        losses = evaluate_population(loss_at, candidates, self.chunk_size)
        self._nonfinite.assign_add(ops.sum(ops.cast(~ops.isfinite(losses), "int32")))
        return losses

    def _start_from_priors(self, loss_at):
        candidates = []
        for p in self.parameters:
            here = ops.cast(p.coordinates, "float32")
            if p.prior is None:
                drawn = ops.broadcast_to(here, (self.prior_samples, *here.shape))
            else:
                drawn = p.prior.sample((self.prior_samples, *here.shape), self.seed_generator)
                drawn = ops.vectorized_map(p.to_coordinates, drawn)
            candidates.append(ops.concatenate([here[None], drawn]))
        losses = evaluate_population(loss_at, candidates, self.chunk_size)
        for p, best in zip(self.parameters, best_of(candidates, losses)):
            p.coordinates.assign(ops.cast(best, p.coordinates.dtype))
            p.kept.assign(ops.cast(best, p.kept.dtype))

    def _keep_average(self):
        """The polynomial-decay average of Shamir and Zhang (2013)."""
        updates = ops.cast(self.iterations, "float32")
        share = ops.minimum(1.0, (_AVERAGING_POWER + 1) / (updates + _AVERAGING_POWER))
        share = ops.where(self.failed, 0.0, share)
        for p in self.parameters:
            kept, here = (ops.cast(v, "float32") for v in (p.kept, p.coordinates))
            p.kept.assign(ops.cast(kept + share * (here - kept), p.kept.dtype))

    def _keep_best(self, loss_at, candidates, losses):
        """Compares the best candidate with what was kept, on the same batch."""
        kept = [ops.cast(p.kept, "float32") for p in self.parameters]
        is_better = ops.min(_or_infinity(losses)) < _or_infinity(loss_at(kept))
        for p, here, best in zip(self.parameters, kept, best_of(candidates, losses)):
            p.kept.assign(ops.cast(ops.where(is_better, best, here), p.kept.dtype))

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        parameters = self.parameters if self.built else ()
        super().finalize_variable_values([p.coordinates for p in parameters])
        for p in parameters:
            p.push()

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "priors": {k: serialize(v) for k, v in self.priors.items()},
            "transforms": {k: serialize(v) for k, v in self.transforms.items()},
            "generations_per_batch": self.generations_per_batch,
            "prior_samples": self.prior_samples,
            "keep": self.keep,
            "chunk_size": self.chunk_size,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None) -> "PopulationOptimizer":
        config = dict(config)
        for name in ("priors", "transforms"):
            config[name] = {
                pattern: keras.saving.deserialize_keras_object(entry, custom_objects)
                for pattern, entry in (config.get(name) or {}).items()
            }
        return super().from_config(config, custom_objects)


def _or_infinity(losses):
    return ops.where(ops.isfinite(losses), losses, float("inf"))
