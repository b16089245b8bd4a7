"""PopulationOptimizer: the base of optimizers that compare candidates for the weights."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import host_value
from keras_extras._core.checks import check_built_for, check_choice, check_integer, check_seed
from keras_extras._core.path_patterns import check_patterns, match_patterns
from keras_extras._core.stateless import cond, while_loop
from keras_extras.optimizers.candidate_map import CandidateMap
from keras_extras.optimizers.kept_weights import (
    keep_average,
    keep_best,
    polynomial_decay_share,
)
from keras_extras.optimizers.loss_evaluating import LossEvaluatingOptimizer
from keras_extras.optimizers.parameter import Parameter, check_transform
from keras_extras.optimizers.population import (
    best_of,
    chunk_bytes,
    equal_parts,
    evaluate_population,
)
from keras_extras.optimizers.prior_start import start_from_priors
from keras_extras.optimizers.priors import Prior
from keras_extras.optimizers.search_record import SearchRecord

_MANY_TIES = 100
_AUTO_CANDIDATES = 16
# What an update of any size saves by fewer operations when it is compiled, in numbers computed.
_OF_OPERATIONS = 10e6


class PopulationOptimizer(LossEvaluatingOptimizer):
    """Base class of optimizers that evaluate a population of candidates on each batch.

    It brings what does not depend on how candidates are drawn: coordinates by transform, starts
    from priors, evaluation in chunks, and which weights are kept. A subclass overrides
    `build_search` for its state, `ask`, which draws candidates, and `tell`, which moves the search
    once their losses are known. Between them this class evaluates.

    Example:

    ```python
    import keras
    from keras import ops
    from keras_extras import optimizers

    class BestOfTen(optimizers.PopulationOptimizer):
        def build_search(self, coordinates):
            pass  # Nothing is kept but the coordinates.

        def ask(self):
            candidates = []
            for p in self.parameters:
                shape = (10, *p.coordinates.shape)
                noise = keras.random.normal(shape, seed=self.seed_generator)
                candidates.append(p.coordinates + self.learning_rate * noise)
            return candidates, candidates

        def tell(self, candidates, losses):
            best = ops.argmin(losses)
            for p, drawn in zip(self.parameters, candidates):
                p.coordinates.assign(drawn[best])

    optimizer = BestOfTen(
        0.1,
        priors=None,
        transforms=None,
        generations_per_batch=1,
        num_prior_samples=0,
        keep="best",
        chunk_size=None,
        seed=1,
    )
    w = keras.Variable([3.0, -2.0])
    optimizer.minimize(lambda: ops.sum(w**2), [w])
    ```
    """

    # Whether coordinates without a transform are kept where Keras' constraints allow them to be.
    projects_coordinates = True
    # Whether a copy of the weights before each update is kept, to record how far it went.
    records_steps = True
    # The width of the search, in units of each parameter's scale.
    sigma = 1.0

    def __init__(
        self,
        learning_rate: Any,
        priors: Mapping[str, Prior] | None,
        transforms: Mapping[str, Callable[[Any], Any]] | None,
        generations_per_batch: int,
        num_prior_samples: int,
        keep: str,
        chunk_size: int | str | None,
        seed: int | None,
        vectorize: bool | str = "auto",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.priors = check_patterns("priors", priors, Prior, "a prior, such as Normal(0.0, 1.0)")
        self.transforms = check_patterns("transforms", transforms, Callable, "a function")
        self.generations_per_batch = check_integer("generations_per_batch", generations_per_batch)
        self.num_prior_samples = check_integer("num_prior_samples", num_prior_samples, minimum=0)
        if self.num_prior_samples and not self.priors:
            raise ValueError(
                "`num_prior_samples` needs `priors` to draw from, e.g. "
                f'priors={{"*": Normal(0.0, 0.1)}}. Received: num_prior_samples={num_prior_samples}'
            )
        self.keep = check_choice("keep", keep, ("average", "current", "best"))
        if self.use_ema and keep != "current":
            raise ValueError(
                "`use_ema` is another choice of which weights are kept, and needs keep='current'. "
                f"Received: use_ema=True, keep={keep!r}"
            )
        is_number = chunk_size is not None and not isinstance(chunk_size, str)
        if isinstance(chunk_size, str) and chunk_size != "auto":
            raise ValueError(
                "`chunk_size` must be an integer, 'auto', or None for all candidates at once. "
                f"Received: chunk_size={chunk_size!r}"
            )
        self.chunk_size = check_integer("chunk_size", chunk_size) if is_number else chunk_size
        check_choice("vectorize", vectorize, ("auto", True, False))
        self.vectorize = vectorize if isinstance(vectorize, str) else bool(vectorize)
        self.candidate_map = CandidateMap(self.name, self.vectorize)
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self._seed_state = self.seed_generator.state  # tracked: saved with the optimizer
        self._auto_chunk: int | None = None
        self._record = SearchRecord(self)
        self._ties = self.add_variable((), dtype="int32", name="ties")
        self._has_warned_of_ties = False
        self._undecayed: set[int] = set()
        self._undecayed_names: Any = None

    def build_search(self, coordinates: Sequence[keras.Variable]) -> None:
        """Adds the variables of the search; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override `build_search`.")

    def ask(self) -> tuple[list[Any], Any]:
        """Draws candidates; to be overridden.

        Returns:
            The candidates, a tensor of shape `(population, *shape)` for each of `self.parameters`,
            and anything that `tell` needs to know of them.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `ask`.")

    def tell(self, drawn: Any, losses: Any) -> None:
        """Moves the search; to be overridden. Not called when no loss is finite.

        Args:
            drawn: The second result of `ask`.
            losses: Tensor of shape `(population,)`, infinite where a loss is not finite.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `tell`.")

    def generation(self, loss_at: Callable[[Sequence[Any]], Any]) -> tuple[list[Any], Any]:
        """Draws candidates, evaluates them and moves the search.

        Args:
            loss_at: Function from coordinates, a tensor for each of `self.parameters`, to the
                scalar loss of the batch.

        Returns:
            The best candidate, a list of tensors, which may be empty unless `keep="best"`, and its
            loss, infinite if none is finite.
        """
        asked = self.ask()
        is_pair = isinstance(asked, tuple) and len(asked) == 2
        if not is_pair or len(asked[0]) != len(self.parameters):
            raise ValueError(
                f"`ask` of {type(self).__name__} must return a tuple of the candidates, a list of "
                f"{len(self.parameters)} tensors with one for each of `self.parameters`, and of "
                f"what `tell` needs. Received: {asked!r}"
            )
        candidates, drawn = asked
        losses = self.evaluate(loss_at, candidates)
        finite = ops.isfinite(losses)
        losses = ops.where(finite, losses, float("inf"))
        least = ops.min(losses)
        most = ops.max(ops.where(finite, losses, float("-inf")))
        self.count_ties(least == most, least)
        self._failed.assign(~ops.any(finite))
        cond(ops.any(finite), lambda: self.tell(drawn, losses), lambda: None)
        return best_of(candidates, losses)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        # For none it is built by Keras' loader of `.h5`, before the weights are known.
        if self.built or not variables:
            return
        variables = list(variables)
        priors = match_patterns("priors", self.priors, variables)
        transforms = match_patterns("transforms", self.transforms, variables)
        self.parameters = [
            self._parameter(variable, transform, prior)
            for variable, transform, prior in zip(variables, transforms, priors)
        ]
        coordinates = [p.coordinates for p in self.parameters]
        kept_out = [p.coordinates for p in self.parameters if id(p.variable) in self._undecayed]
        if kept_out:
            super().exclude_from_weight_decay(kept_out, self._undecayed_names)
        super().build(coordinates)
        self.build_search(coordinates)

    def exclude_from_weight_decay(
        self, var_list: Sequence[keras.Variable] | None = None, var_names: Any = None
    ) -> None:
        super().exclude_from_weight_decay(var_list=var_list, var_names=var_names)
        self._undecayed = {id(variable) for variable in var_list or ()}
        self._undecayed_names = var_names

    def _parameter(self, variable, transform, prior):
        if transform is not None:
            check_transform(transform, variable)
        coordinates = kept = variable
        # Steps of a search are lost in the rounding of half precision.
        dtype = keras.backend.result_type(variable.dtype, "float32")
        leaves_allowed = variable.constraint is not None and not self.projects_coordinates
        is_apart = transform is not None or leaves_allowed or dtype != variable.dtype
        if is_apart or self.keep != "current":
            coordinates = kept = self._variable_like(variable, dtype, "coordinates")
        if self.keep != "current":
            coordinates = self._variable_like(variable, dtype, "mean")
        return Parameter(variable, coordinates, kept, transform, prior, self.sigma)

    def _variable_like(self, variable, dtype, name):
        if dtype == variable.dtype:
            return self.add_variable_from_reference(variable, name)
        return self.add_variable(variable.shape, dtype=dtype, name=f"{variable.name}_{name}")

    def explained_errors(self) -> contextlib.AbstractContextManager:
        return self.candidate_map.naming_the_way_out()

    def search(self, loss_of: Callable, variables: Sequence[keras.Variable]) -> None:
        check_built_for(self.name, variables, [p.variable for p in self.parameters])
        for p in self.parameters:
            p.pull()

        def loss_at(coordinates):
            values = [p.to_values(u) for p, u in zip(self.parameters, coordinates)]
            with self.candidate_map.naming_the_way_out():
                return ops.cast(loss_of(values), "float32")

        if self.num_prior_samples:
            cond(
                ops.equal(self.iterations, 0),
                lambda: start_from_priors(
                    self.parameters,
                    self.num_prior_samples,
                    self.seed_generator,
                    functools.partial(self._losses, loss_at),
                ),
                lambda: None,
            )

        def advance(number):
            self._advance(loss_at)
            return (number + 1,)

        # The last generation is outside of the loop: what its losses are of may be in the logs.
        if self.generations_per_batch > 1:
            while_loop(
                lambda number: number < self.generations_per_batch - 1,
                advance,
                (ops.convert_to_tensor(0),),
            )
        here = self._record.begin(loss_at, self.parameters)
        self._advance(
            loss_at,
            lambda best_loss: self._record.end(
                here if self.records_steps else None, best_loss, self.parameters
            ),
        )
        for p in self.parameters:
            p.push()

    def _advance(self, loss_at, record=None):
        """Moves the search by a generation and updates what is kept."""
        best, best_loss = self.generation(loss_at)
        if self.projects_coordinates:
            for p in self.parameters:
                p.project()
        if record is not None:
            record(best_loss)
        if self.keep == "best":
            keep_best(self.parameters, loss_at, best, best_loss)
        elif self.keep == "average":
            share = self.average_share(polynomial_decay_share(self.iterations))
            keep_average(self.parameters, ops.where(self.failed, 0.0, share))

    def chunk_of(
        self, loss_at: Callable, shapes: Sequence[tuple[int, ...]], count: int, members: int = 1
    ) -> int:
        """Returns how many of `count` units to evaluate at once, each of `members` candidates."""
        most = self.chunk_size
        if isinstance(most, str):  # "auto"
            if self._auto_chunk is None:
                fitting = chunk_bytes() // self.candidate_map.candidate_bytes(loss_at, shapes)
                self._auto_chunk = max(fitting, _AUTO_CANDIDATES)
            chunks = equal_parts(count, count * members / self._auto_chunk)
        elif most is None:
            return count
        else:
            chunks = -(-count // max(1, most // members))
        return -(-count // chunks)

    def evaluate(self, loss_at: Callable, candidates: Sequence[Any]) -> Any:
        """Returns the losses of candidates, NaN where not finite, and counts these."""
        losses = self._losses(loss_at, candidates)
        self.count_nonfinite(losses)
        return losses

    def _losses(self, loss_at, candidates):
        shapes = [tuple(c.shape[1:]) for c in candidates]
        chunk = self.chunk_of(loss_at, shapes, candidates[0].shape[0])
        return evaluate_population(loss_at, candidates, chunk, self.candidate_map)

    def count_nonfinite(self, losses: Any, where: Any = True) -> None:
        """Adds to `nonfinite_candidates` of the logs."""
        is_bad = ops.logical_and(~ops.isfinite(losses), where)
        self._nonfinite.assign_add(ops.sum(ops.cast(is_bad, "int32")))
        self._record.count(losses, where)

    def count_ties(self, is_tie: Any, loss: Any) -> None:
        """Counts updates in a row whose candidates all have the same loss, other than 0.

        Args:
            is_tie: Boolean scalar, whether the finite losses are equal.
            loss: Scalar tensor, one of them.
        """
        is_stuck = ops.logical_and(is_tie, loss != 0.0)
        self._ties.assign(ops.where(is_stuck, ops.copy(self._ties) + 1, 0))

    def begin_training(self, model: keras.Model) -> None:
        super().begin_training(model)
        self.candidate_map.forget()
        self._ties.assign(0)
        self._has_warned_of_ties = False

    def extra_logs(self) -> dict[str, int]:
        if not self._has_warned_of_ties and host_value(self._ties) >= _MANY_TIES:
            self._has_warned_of_ties = True
            warnings.warn(
                f"All candidates of {self.name} have had the same loss for {_MANY_TIES} updates, "
                "so that nothing shows the way. The loss is flat around the weights: make the "
                f"search wider. Received: sigma={self.sigma}",
                stacklevel=2,
            )
        return super().extra_logs()

    def work_per_update(self) -> float:
        """Returns how much an update saves when it is compiled by XLA, in numbers computed."""
        population = getattr(self, "population_size", None) or _AUTO_CANDIDATES
        values = self.candidate_map.values
        return values and population * values + _OF_OPERATIONS

    def watch_search(self, watched: bool) -> None:
        """Turns recording of `search_state` on or off.

        Args:
            watched: Whether to keep track, which takes one more evaluation of the loss for each
                batch.
        """
        self._record.watch(watched)

    def search_state(self) -> dict[str, float]:
        """Statistics of the last generation, as `callbacks.SearchMonitor` records them.

        Returns:
            Dict from names to numbers; NaN where the search was not watched.
        """
        return self._record.numbers()

    def average_share(self, share: Any) -> Any:
        """Returns the share of the current weights in the average that is kept."""
        return share

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
            "num_prior_samples": self.num_prior_samples,
            "keep": self.keep,
            "chunk_size": self.chunk_size,
            "seed": self.seed,
            "vectorize": self.vectorize,
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
