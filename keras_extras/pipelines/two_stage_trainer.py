"""TwoStageTrainer: how AutoencoderClassifier is compiled and fitted."""

import os
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import keras

from keras_extras._core.files import remove_folders
from keras_extras._core.locks import locked_folder
from keras_extras._core.saved_objects import check_modules
from keras_extras.pipelines.arrays import as_inputs, as_labels, check_finite, check_same_rows
from keras_extras.pipelines.backups import fit_with_backup
from keras_extras.pipelines.copies import copy_metrics, copy_optimizer


class StageHistories(NamedTuple):
    """The result of `AutoencoderClassifier.fit`: the `History` of every training.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    pipeline = keras_extras.pipelines.AutoencoderClassifier(
        encoder=keras.layers.Dense(2),
        decoder=keras.layers.Dense(4),
        classifier=keras.layers.Dense(1, activation="sigmoid"),
    )
    pipeline.compile()
    histories = pipeline.fit(np.ones((8, 4)), np.zeros(8), verbose=0)
    histories.autoencoder[0].history["loss"]
    histories.classifier.history["loss"]
    ```
    """

    autoencoder: list[keras.callbacks.History]
    classifier: keras.callbacks.History


class TwoStageTrainer(keras.Model):
    """Stage one fits each of `self.autoencoders`, stage two `self.classifier`, with stock `fit`.

    A child has these two, and `preprocess` and `features_of`, what they are given.
    """

    def compile(
        self,
        autoencoder_optimizer: Any = "adam",
        autoencoder_loss: Any = "mean_squared_error",
        classifier_optimizer: Any = "adam",
        classifier_loss: Any = "binary_crossentropy",
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
    ) -> None:
        """Configures both stages.

        Args:
            autoencoder_optimizer: Optimizer of stage one: name, config or instance. Every
                realization gets a copy, with its own seed where the optimizer has one.
                Defaults to `"adam"`.
            autoencoder_loss: Loss between inputs and reconstructions. Defaults to
                `"mean_squared_error"`.
            classifier_optimizer: Optimizer of stage two, copied as well. Defaults to `"adam"`.
            classifier_loss: Loss between labels and predictions. Defaults to
                `"binary_crossentropy"`.
            metrics: Metrics of the predictions, in stage two and in `evaluate`, as in
                `keras.Model.compile`. Defaults to `None`.
            weighted_metrics: The same, weighted by `sample_weight`. Defaults to `None`.
            run_eagerly: As in `keras.Model.compile`, for both stages. Defaults to `False`.
            steps_per_execution: As in `keras.Model.compile`, for both stages. Defaults to `1`.
            jit_compile: As in `keras.Model.compile`, for both stages. Defaults to `"auto"`.

        Raises:
            ValueError: If an optimizer is None.
        """
        optimizers = {
            "autoencoder_optimizer": autoencoder_optimizer,
            "classifier_optimizer": classifier_optimizer,
        }
        for name, optimizer in optimizers.items():
            if optimizer is None:
                raise ValueError(
                    f"`{name}` must be a Keras optimizer, its name or its config; each stage has "
                    f"its own. Received: {name}=None"
                )
        execution = {
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
        }
        judged_by = {"metrics": metrics, "weighted_metrics": weighted_metrics}
        for realization, autoencoder in enumerate(self.autoencoders):
            optimizer = copy_optimizer(autoencoder_optimizer, self.seed, realization, "stage one")
            autoencoder.compile(optimizer, autoencoder_loss, **execution)
        optimizer = copy_optimizer(classifier_optimizer, self.seed, 0, "stage two")
        self.classifier.compile(optimizer, classifier_loss, **judged_by, **execution)
        # For `evaluate`: as a whole, the pipeline is never trained.
        super().compile(None, classifier_loss, **copy_metrics(judged_by), **execution)
        if self.built:
            self._build_optimizers()
        losses = {"autoencoder_loss": autoencoder_loss, "classifier_loss": classifier_loss}
        # Read-only, so that Keras does not track optimizers and metrics a second time.
        self._compile_arguments = MappingProxyType(
            {**optimizers, **losses, **judged_by, **execution}
        )

    def fit(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        batch_size: int = 32,
        autoencoder_epochs: int = 1,
        classifier_epochs: int = 1,
        validation_split: float = 0.0,
        validation_data: tuple | None = None,
        autoencoder_callbacks: Sequence[keras.callbacks.Callback] | None = None,
        classifier_callbacks: Sequence[keras.callbacks.Callback] | None = None,
        class_weight: dict | None = None,
        verbose: str | int = "auto",
        backup_dir: str | os.PathLike | None = None,
    ) -> StageHistories:
        """Trains the autoencoders, then the classifier. Called again, it continues both.

        Args:
            x: Inputs, an array of shape `(n, d)` or of a higher rank.
            y: Labels, an array with `n` rows.
            sample_weight: Array with `n` rows, weights of the events in stage two. Stage one
                treats all events alike. Defaults to `None`.
            batch_size: Integer, events in a batch, in both stages. Defaults to `32`.
            autoencoder_epochs: Integer, epochs of each autoencoder. Defaults to `1`.
            classifier_epochs: Integer, epochs of the classifier. Defaults to `1`.
            validation_split: Share of the last rows that both stages hold out. Defaults to `0.0`.
            validation_data: Tuple `(x, y)` or `(x, y, sample_weight)`. Defaults to `None`.
            autoencoder_callbacks: List of callbacks of stage one, used by one realization after
                the other. Their model is the autoencoder. Defaults to `None`.
            classifier_callbacks: List of callbacks of stage two. Their model is the classifier.
                Defaults to `None`.
            class_weight: Dict from class to weight, of stage two. Defaults to `None`.
            verbose: As in `keras.Model.fit`. Defaults to `"auto"`.
            backup_dir: Path of a folder in which each training is backed up at the end of each
                epoch, as by `keras_extras.callbacks.BackupAndResume`, until all of them are
                through. After a crash, the same call with the same folder goes on where it was;
                histories then hold the epochs since. Defaults to `None`.

        Returns:
            A named tuple: `.autoencoder`, a list with the `History` of each realization, and
            `.classifier`, the `History` of stage two.

        Raises:
            TypeError: If `x` or `y` does not hold numbers.
            ValueError: If the pipeline is not compiled, if numbers of rows differ, if inputs are
                NaN or infinite after the preprocessor, or labels or weights are, or if labels,
                predictions and loss do not go together. All of it shows before the first epoch.
        """
        x, y = self._check_inputs(x), as_labels(y)
        check_same_rows(x=x, y=y, sample_weight=sample_weight)
        if sample_weight is not None:
            sample_weight = as_labels(sample_weight, "sample_weight")
        if validation_data is not None:
            parts = dict(zip(("x_val", "y_val", "sample_weight_val"), validation_data))
            check_same_rows(**parts)
            _check_labels(parts)
        self.compute_loss(y=y[:8], y_pred=self(x[:8]))  # raises now, not after stage one
        shared: dict[str, Any] = {
            "batch_size": batch_size,
            "validation_split": validation_split,
            "verbose": verbose,
            "backup_dir": backup_dir,
        }
        with locked_folder(backup_dir, "backup_dir"):
            autoencoder = self.fit_autoencoder(
                x,
                epochs=autoencoder_epochs,
                validation_data=None if validation_data is None else validation_data[0],
                callbacks=autoencoder_callbacks,
                **shared,
            )
            classifier = self.fit_classifier(
                x,
                y,
                sample_weight=sample_weight,
                epochs=classifier_epochs,
                validation_data=validation_data,
                callbacks=classifier_callbacks,
                class_weight=class_weight,
                **shared,
            )
            if backup_dir is not None:
                remove_folders(backup_dir, "autoencoder_*", "classifier*")
        return StageHistories(autoencoder, classifier)

    def fit_autoencoder(
        self,
        x: Any,
        validation_data: Any = None,
        backup_dir: str | os.PathLike | None = None,
        **fit_options: Any,
    ) -> list[keras.callbacks.History]:
        """Stage one alone: fits each autoencoder to `x`.

        Args:
            x: Inputs. They need no labels, so there may be more of them than for stage two.
            validation_data: Inputs to validate on. Defaults to `None`.
            backup_dir: As in `fit`; the folder stays. Defaults to `None`.
            **fit_options: Of `keras.Model.fit`, as `epochs`, `batch_size`, `callbacks`.

        Returns:
            A list with the `History` of each realization.
        """
        x = self.preprocess(self._check_inputs(x))
        check_finite("`x` after the preprocessor", x)
        if validation_data is not None:
            validation_data = self.preprocess(as_inputs(validation_data))
            validation_data = (validation_data, validation_data)
        fit_options["validation_data"] = validation_data
        return [
            fit_with_backup(autoencoder, x, x, backup_dir, f"autoencoder_{number}", **fit_options)
            for number, autoencoder in enumerate(self.autoencoders)
        ]

    def fit_classifier(
        self,
        x: Any,
        y: Any,
        validation_data: tuple | None = None,
        backup_dir: str | os.PathLike | None = None,
        **fit_options: Any,
    ) -> keras.callbacks.History:
        """Stage two alone: fits the classifier to `y`, the autoencoders stay as they are.

        Args:
            x: Inputs.
            y: Labels.
            validation_data: Tuple `(x, y)` or `(x, y, sample_weight)`. Defaults to `None`.
            backup_dir: As in `fit`; the folder stays. Defaults to `None`.
            **fit_options: Of `keras.Model.fit`, as `sample_weight`, `epochs`, `callbacks`.

        Returns:
            The `History` of the classifier.
        """
        x, y = self._check_inputs(x), as_labels(y)
        check_same_rows(x=x, y=y)
        if fit_options.get("sample_weight") is not None:
            as_labels(fit_options["sample_weight"], "sample_weight")
        if validation_data is not None:
            validation_x, *rest = validation_data
            _check_labels(dict(zip(("y_val", "sample_weight_val"), rest)))
            validation_data = (self.features_of(validation_x), *rest)
        features = self.features_of(x)
        check_finite("the features of `x`", features)
        fit_options["validation_data"] = validation_data
        return fit_with_backup(
            self.classifier, features, y, backup_dir, "classifier", **fit_options
        )

    def _check_inputs(self, x):
        if not self.compiled:
            raise ValueError(f"Call `compile` of the pipeline {self.name!r} before it is trained.")
        x = as_inputs(x)
        if not self.built:
            self.build((None, *x.shape[1:]))
        return x

    def _build_optimizers(self):
        """Gives the optimizers their variables, so that these can be saved and loaded."""
        for model in (*self.autoencoders, self.classifier):
            model.optimizer.build(model.trainable_variables)

    def get_compile_config(self) -> dict:
        if not self.compiled:
            return {}
        return keras.saving.serialize_keras_object(dict(self._compile_arguments))

    def compile_from_config(self, config: dict) -> None:
        check_modules(config)
        self.compile(**keras.saving.deserialize_keras_object(config))


def _check_labels(parts):
    """Of the parts of `validation_data` all but the inputs, by their names."""
    for name, values in parts.items():
        if name != "x_val" and values is not None:
            as_labels(values, name)
