"""HypergradientTuner: an oracle for what is discrete, gradients for what is continuous."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_extras._core.checks import check_integer
from keras_extras._core.data import check_data, paired_targets
from keras_extras._core.files import whole_file
from keras_extras.tuners.reload_hook import install_reload_hook
from keras_extras.tuners.tunable import whole_numbers
from keras_extras.unrolled import UnrolledTraining


class HypergradientTuner(keras_tuner.Tuner):
    """Samples discrete hyperparameters, and descends the gradient of continuous ones.

    Each trial gets a model of the hypermodel, with what the oracle has chosen: widths, activations,
    kinds of layers. Its training for `steps` updates is then a differentiable function of the
    `hyperparameters`, learning rates, momenta, penalties and so on, and these descend the gradient
    of the validation loss for `meta_steps` (see `keras_extras.unrolled.UnrolledTraining`). So few
    trials do what many do that sample everything.

    The hypermodel compiles its models with `SGD`, `RMSprop` or `Adam` and any loss and metrics;
    learned values replace the settings of the same name. The score of a trial is that of the
    model trained with the learned values; `"val_loss"` is the loss of the model as compiled on the
    validation data. `learned` returns the learned hyperparameters of a trial.

    The model that `get_best_models` returns is trained on `x` with the learned values.

    Args:
        oracle: A `keras_tuner.Oracle`, such as
            `keras_tuner.oracles.RandomSearchOracle("val_loss", max_trials=5)`.
        hypermodel: A `keras_tuner.HyperModel`, or a function from `keras_tuner.HyperParameters` to
            a compiled and built model.
        hyperparameters: Dict from names to the values where they start, as of `UnrolledTraining`,
            or a function from `keras_tuner.HyperParameters` to one.
        steps: Integer, the updates of a training. Defaults to `200`.
        batch_size: Integer. Defaults to `32`.
        meta_steps: Integer, how often the hyperparameters are updated. Defaults to `20`.
        meta_optimizer: Keras optimizer of the hyperparameters in their logarithm or logit, its name
            or configuration. `None` for `keras.optimizers.Adam(0.1)`. Defaults to `None`.
        memory: As of `UnrolledTraining`. Defaults to `"all"`.
        seed: Integer, of the order of the rows. Defaults to `0`.
        **kwargs: Of `keras_tuner.Tuner`, such as `directory` and `project_name`.

    Raises:
        TypeError: If `hyperparameters` is neither a dict nor a function.
        ValueError: If a number is out of range, or the oracle has several objectives; in `search`,
            without validation data or if the training of a trial cannot be differentiated.

    Example:

    ```python
    import keras
    import keras_tuner
    import numpy as np
    from keras_extras import tuners, unrolled

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0.0).astype("float32")[:, None]


    def build(hp):
        model = keras.Sequential([
            keras.Input((4,)),
            keras.layers.Dense(hp.Choice("units", [4, 16]), activation="tanh"),
            keras.layers.Dense(1, activation="sigmoid"),
        ])
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        return model


    tuner = tuners.HypergradientTuner(
        keras_tuner.oracles.RandomSearchOracle("val_loss", max_trials=2),
        build,
        {"learning_rate": unrolled.PerStep(0.01), "l2/*kernel": 1e-4},
        steps=50,
        meta_steps=3,
        directory="outputs/hypergradients",
        overwrite=True,
    )
    tuner.search(x[:200], y[:200], validation_data=(x[200:], y[200:]), verbose=0)
    best = tuner.oracle.get_best_trials()[0]
    tuner.learned(best)["learning_rate"]  # 50 numbers
    ```
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        hypermodel: keras_tuner.HyperModel | Callable[[keras_tuner.HyperParameters], keras.Model],
        hyperparameters: Mapping[str, Any]
        | Callable[[keras_tuner.HyperParameters], Mapping[str, Any]],
        steps: int = 200,
        batch_size: int = 32,
        meta_steps: int = 20,
        meta_optimizer: Any = None,
        memory: str = "all",
        seed: int = 0,
        **kwargs: Any,
    ):
        if not callable(hyperparameters) and not isinstance(hyperparameters, Mapping):
            raise TypeError(
                "`hyperparameters` must be a dict from names to values, or a function from "
                f"keras_tuner.HyperParameters to one. Received: {hyperparameters!r}"
            )
        self.starts = hyperparameters
        self.steps = check_integer("steps", steps)
        self.batch_size = check_integer("batch_size", batch_size)
        self.meta_steps = check_integer("meta_steps", meta_steps)
        self.meta_optimizer = keras.optimizers.serialize(
            keras.optimizers.get(meta_optimizer or keras.optimizers.Adam(0.1))
        )
        self.memory = memory
        self.seed = seed
        install_reload_hook(HypergradientTuner)
        if hasattr(getattr(oracle, "objective", None), "objectives"):
            raise ValueError(
                "`oracle` must have one objective, which ranks the trials; the hyperparameters "
                f"descend the validation loss. Received: objective={oracle.objective!r}"
            )
        super().__init__(oracle, hypermodel, **kwargs)

    def search(
        self,
        x: Any,
        y: Any,
        validation_data: tuple | None = None,
        verbose: int = 1,
        **unknown: Any,
    ) -> None:
        """Runs the trials.

        Args:
            x: Inputs, an array with a row for each example.
            y: Targets.
            validation_data: Tuple `(x_val, y_val)`, whose loss the hyperparameters descend.
            verbose: Integer, 0 for silence. Defaults to `1`.
            **unknown: None; what another tuner takes is refused here.

        Raises:
            TypeError: If there are other arguments.
            ValueError: Without `validation_data`.
        """
        if unknown:
            raise TypeError(
                "`search` must be given `x`, `y`, `validation_data` and `verbose` only; `steps`, "
                "`batch_size` and `meta_steps` are arguments of the tuner. "
                f"Received: {', '.join(unknown)}"
            )
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError(
                "`validation_data` must be a tuple `(x_val, y_val)`, whose loss the "
                "hyperparameters descend. Received: validation_data="
                f"{None if validation_data is None else type(validation_data).__name__}"
            )
        super().search(x, y, validation_data=validation_data, verbose=verbose)

    def run_trial(
        self,
        trial: Any,
        x: Any,
        y: Any,
        validation_data: tuple,
        verbose: int = 1,
    ) -> dict[str, float]:
        """Learns the hyperparameters of one trial; called by `search` with its arguments."""
        keras.utils.clear_session()
        keras.utils.set_random_seed(self.seed)
        values = trial.hyperparameters
        model = self._build(values)
        try:
            for inputs, targets in ((x, y), validation_data):
                check_data(inputs, targets, call=model)
                outputs = model(keras.tree.map_structure(lambda part: part[:1], inputs))
                names = getattr(model, "output_names", None) or ()
                paired_targets(targets, outputs, model.loss, names)
        except (TypeError, ValueError) as error:  # All trials would fail.
            raise keras_tuner.errors.FatalValueError(str(error)) from error
        training = UnrolledTraining(
            model,
            model.optimizer,
            model.loss,
            self.steps,
            self.starts(values) if callable(self.starts) else self.starts,
            batch_size=self.batch_size,
            memory=self.memory,
            seed=self.seed,
        )
        history = training.fit(
            x,
            y,
            validation_data,
            keras.optimizers.deserialize(self.meta_optimizer),
            self.meta_steps,
            verbose=verbose,
        )
        self._save(trial, model, training, history)
        scores = model.evaluate(*validation_data, verbose=0, return_dict=True)
        return {
            "loss": history.history["loss"][-1],
            **{f"val_{name}": float(value) for name, value in scores.items()},
        }

    def _build(self, values):
        """A model whose optimizer has its variables, so that they are saved and loaded."""
        whole_numbers(values)
        model = self.hypermodel.build(values)
        model.optimizer.build(model.trainable_variables)
        return model

    def _save(self, trial, model, training, history):
        folder = Path(self.get_trial_dir(trial.trial_id))
        model.save_weights(folder / "learned.weights.h5")
        learned = {name: value.tolist() for name, value in training.hyperparameters.items()}
        content = {"hyperparameters": learned, "history": history.history}
        with whole_file(folder / "learned.json") as temporary:
            temporary.write_text(json.dumps(content))

    def learned(self, trial: Any) -> dict[str, np.ndarray]:
        """Returns the continuous hyperparameters of a finished trial.

        Args:
            trial: A trial of `tuner.oracle`, as from `tuner.oracle.get_best_trials()`.
        """
        content = json.loads(
            (Path(self.get_trial_dir(trial.trial_id)) / "learned.json").read_text()
        )
        return {name: np.asarray(value) for name, value in content["hyperparameters"].items()}

    def load_model(self, trial: Any) -> keras.Model:
        """Returns the model of a trial as it was trained with what was learned."""
        model = self._build(trial.hyperparameters)
        model.load_weights(Path(self.get_trial_dir(trial.trial_id)) / "learned.weights.h5")
        return model
