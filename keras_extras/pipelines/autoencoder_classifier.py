"""AutoencoderClassifier: autoencoders compress the events, a classifier sorts them."""

import random
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_choice, check_integer
from keras_extras._core.registration import serializable
from keras_extras.pipelines.arrays import as_inputs
from keras_extras.pipelines.copies import copy_layer
from keras_extras.pipelines.two_stage_trainer import TwoStageTrainer

_PARTS = ("encoder", "decoder", "classifier", "preprocessor")


@serializable
class AutoencoderClassifier(TwoStageTrainer):
    """Trains autoencoders on the inputs, then a classifier on what they encode.

    Stage one fits `decoder(encoder(x))` to `x`, in its own stock `fit` with its own optimizer and
    loss; labels play no part in it. Stage two fits `classifier` on the latents, computed once,
    or on the inputs and latents side by side. With `realizations=R` stage one trains R
    autoencoders that differ in their initial weights, and their latents are stacked.

    The pipeline is a Keras model from `x` to the prediction of the classifier: call it, `predict`,
    `evaluate`, `save` and load it like any other. What it trains are copies of `encoder`,
    `decoder` and `classifier`, whose trainable weights are drawn again: use the same parts in as
    many pipelines as you like. Weights of frozen or adapted layers are copied. The trained parts
    are `pipeline.encoders`, `pipeline.decoders`, `pipeline.autoencoders` (lists, one entry for
    each realization) and `pipeline.classifier`.

    Args:
        encoder: Keras layer or model from inputs, of shape `(n, d)`, to latents, of shape
            `(n, units)`. Inputs of higher rank, such as images, can be encoded too.
        decoder: Keras layer or model from latents to the shape of the inputs.
        classifier: Keras layer or model from features to predictions.
        preprocessor: Keras layer or model applied to the inputs before both stages, or None. The
            autoencoder reconstructs what comes out of it, so imputation and standardization
            belong here and not into the encoder. Adapt it beforehand. It is used as it is, not
            copied, and not trained. Defaults to `None`.
        features: What the classifier sees: `"latent"`, of shape `(n, realizations * units)`, or
            `"input+latent"`, of shape `(n, d + realizations * units)`. Defaults to `"latent"`.
        realizations: Integer, number of autoencoders. Defaults to `1`.
        seed: Integer from which the initial weights of all parts and the seeds of the optimizers
            are drawn. A seed that a part or an optimizer brings along is kept in the first
            realization and counted on from in the others. The order of the batches comes from
            Keras, so call `keras.utils.set_random_seed` for runs that repeat exactly. Defaults to
            `None`, a random seed.
        **kwargs: `name` and `dtype` of the model.

    Raises:
        TypeError: If a part is not a Keras layer.
        ValueError: If `features` is unknown or `realizations` less than 1. When the pipeline is
            built: if latents do not have rank 2, or the decoder does not give the shape of the
            inputs.

    Example:

    ```python
    import keras
    import keras_extras
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 3)) @ rng.normal(size=(3, 8))
    y = x[:, 0] > 0.0

    scale = keras.layers.Normalization()
    scale.adapt(x)
    pipeline = keras_extras.pipelines.AutoencoderClassifier(
        encoder=keras.layers.Dense(3),
        decoder=keras.layers.Dense(8),
        classifier=keras.layers.Dense(1, activation="sigmoid"),
        preprocessor=scale,
        realizations=2,
    )
    pipeline.compile(autoencoder_optimizer="adam", classifier_optimizer="adam", metrics=["AUC"])
    histories = pipeline.fit(x, y, autoencoder_epochs=2, classifier_epochs=2, verbose=0)
    histories.autoencoder[0].history["loss"]  # of the first realization, one value an epoch
    pipeline.encode(x).shape  # (256, 6)
    pipeline.predict(x, verbose=0).shape  # (256, 1)
    ```
    """

    def __init__(
        self,
        encoder: keras.Layer,
        decoder: keras.Layer,
        classifier: keras.Layer,
        preprocessor: keras.Layer | None = None,
        features: str = "latent",
        realizations: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ):
        # Each part casts its own inputs: in half precision raw inputs could overflow.
        super().__init__(autocast=False, **kwargs)
        self.features = check_choice("features", features, ("latent", "input+latent"))
        self.realizations = check_integer("realizations", realizations)
        # Another seed, so that what is saved and loaded goes on with the same seeds.
        self.seed = random.getrandbits(31) if seed is None else check_integer("seed", seed, 0)
        parts = {"encoder": encoder, "decoder": decoder, "classifier": classifier}
        for name, part in parts.items():
            _check_layer(name, part)
        if preprocessor is not None:
            _check_layer("preprocessor", preprocessor)
        # Read-only, so that Keras does not track what is only copied.
        self._blueprints = MappingProxyType(parts)
        self.preprocessor = preprocessor
        self.autoencoders = [
            self._copy_autoencoder(encoder, decoder, realization)
            for realization in range(self.realizations)
        ]
        classifier = copy_layer(classifier, self.seed, 0, "classifier")
        if not isinstance(classifier, keras.Model):
            classifier = keras.Sequential([classifier], name="classifier")
        self.classifier = classifier

    def _copy_autoencoder(self, encoder, decoder, realization):
        name = f"autoencoder_{realization}"
        with keras.name_scope(name):
            encoder = copy_layer(encoder, self.seed, realization, "encoder")
            decoder = copy_layer(decoder, self.seed, realization, "decoder")
        return keras.Sequential([encoder, decoder], name=name)

    @property
    def encoders(self) -> list[keras.Layer]:
        """The trained encoder of each realization."""
        return [autoencoder.layers[0] for autoencoder in self.autoencoders]

    @property
    def decoders(self) -> list[keras.Layer]:
        """The trained decoder of each realization."""
        return [autoencoder.layers[1] for autoencoder in self.autoencoders]

    def build(self, input_shape: Sequence[int | None]) -> None:
        shape = tuple(input_shape)
        if self.preprocessor is not None:
            if not self.preprocessor.built:
                self.preprocessor.build(shape)
            shape = tuple(self.preprocessor.compute_output_shape(shape))
        if self.features == "input+latent" and len(shape) != 2:
            raise ValueError(
                "`features='input+latent'` needs inputs of shape (n, d). Received: inputs of shape "
                f"{shape}. Use features='latent', or flatten the inputs in the preprocessor."
            )
        for autoencoder in self.autoencoders:
            if not autoencoder.built:
                autoencoder.build(shape)
        latent_shape = tuple(self.encoders[0].compute_output_shape(shape))
        if len(latent_shape) != 2:
            raise ValueError(
                "`encoder` must give latents of shape (n, units). Received: an encoder that maps "
                f"{shape} to {latent_shape}. Add a keras.layers.Flatten or a pooling layer."
            )
        decoded_shape = tuple(self.autoencoders[0].compute_output_shape(shape))
        if decoded_shape[1:] != shape[1:]:
            raise ValueError(
                "`decoder` must give the shape of what the encoder gets, as it reconstructs it. "
                f"Received: a decoder that gives {decoded_shape} for inputs of shape {shape}"
            )
        width = self.realizations * latent_shape[1]
        if self.features == "input+latent":
            width += shape[1]
        if not self.classifier.built:
            self.classifier.build((None, width))
        if self.compiled:
            self._build_optimizers()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.classifier(self._features(self._preprocess(inputs)), training=training)

    def _preprocess(self, x):
        x = ops.convert_to_tensor(x)
        return x if self.preprocessor is None else self.preprocessor(x, training=False)

    def _latents(self, x):
        return ops.concatenate([encoder(x, training=False) for encoder in self.encoders], axis=-1)

    def _features(self, x):
        latents = self._latents(x)
        return latents if self.features == "latent" else ops.concatenate([x, latents], axis=-1)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> np.ndarray:
        """Returns the predictions of the classifier; see `keras.Model.predict`."""
        self._check_built("predict")
        return super().predict(x, batch_size, verbose, steps, callbacks)

    def preprocess(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """Returns what the encoders get of `x`: `x` itself where there is no preprocessor."""
        return self._in_batches("preprocess", self._preprocess, x, batch_size)

    def encode(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """Returns the latents of all realizations, of shape `(n, realizations * units)`."""
        return self._in_batches(
            "encode", lambda batch: self._latents(self._preprocess(batch)), x, batch_size
        )

    def features_of(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """Returns what the classifier gets of `x`."""
        return self._in_batches(
            "features_of", lambda batch: self._features(self._preprocess(batch)), x, batch_size
        )

    def reconstruct(self, x: Any, realization: int = 0, batch_size: int = 1024) -> np.ndarray:
        """Returns what an autoencoder makes of `x`, to be compared with `preprocess(x)`.

        Args:
            x: Inputs, as in `fit`.
            realization: Integer, which autoencoder. Defaults to `0`.
            batch_size: Integer, rows computed at a time. Defaults to `1024`.

        Returns:
            Array of the shape of `preprocess(x)`.
        """
        check_choice("realization", realization, range(self.realizations))
        autoencoder = self.autoencoders[realization]
        return self._in_batches(
            "reconstruct",
            lambda batch: autoencoder(self._preprocess(batch), training=False),
            x,
            batch_size,
        )

    def _in_batches(self, name, function, x, batch_size):
        self._check_built(name)
        x = as_inputs(x)
        batches = (x[start : start + batch_size] for start in range(0, len(x), batch_size))
        results = [ops.cast(function(batch), keras.config.floatx()) for batch in batches]
        return np.concatenate([ops.convert_to_numpy(result) for result in results])

    def _check_built(self, name):
        if not self.built:
            raise ValueError(
                f"`{name}` needs a trained pipeline, and {self.name!r} has no weights yet. Call "
                "`fit` first, or load a saved pipeline with keras.models.load_model."
            )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            **{name: _serialize_part(part) for name, part in self._blueprints.items()},
            "preprocessor": _serialize_part(self.preprocessor),
            "features": self.features,
            "realizations": self.realizations,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict) -> "AutoencoderClassifier":
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in _PARTS}
        return cls(**{**config, **parts})


def _check_layer(name, part):
    if not isinstance(part, keras.Layer):
        raise TypeError(
            f"`{name}` must be a Keras layer or model. Received: {name}={part!r} of type "
            f"{type(part).__name__}"
        )


def _serialize_part(part):
    config = keras.saving.serialize_keras_object(part)
    return config and {key: value for key, value in config.items() if key != "compile_config"}
