"""Code in the form of TFP's two tutorials on probabilistic layers, with only the imports changed.

The models are those of "Probabilistic Layers Regression" (cases without Bayesian weights) and of
"Probabilistic Layers VAE", written anew and smaller, on simulated data. In the originals `tfpl`
is `tfp.layers` and `tf.keras` is Keras 2. One line differs beside the imports: Keras 3 has no
`add_variable` without a shape, so the kernel's parameters are made by `add_weight`.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from keras_extras import layers as tfpl

tfk = tf.keras
tfkl = tf.keras.layers
tfd = tfp.distributions

negloglik = lambda y, rv_y: -rv_y.log_prob(y)  # noqa: E731


def line_with_noise(n=150, dtype="float32"):
    """x of shape (n, 1) and y of shape (n,), the noise growing with x."""
    generator = np.random.default_rng(3)
    x = np.sort(generator.uniform(-1.0, 1.0, size=n))
    noise = (0.1 + 0.4 * (x + 1.0)) * generator.normal(size=n)
    return x[:, None].astype(dtype), (2.0 * x + 0.5 + noise).astype(dtype)


def test_regression_no_uncertainty():
    x, y = line_with_noise()
    model = tfk.Sequential(
        [
            tfkl.Dense(1),
            tfpl.DistributionLambda(lambda t: tfd.Normal(loc=t, scale=1)),
        ]
    )
    model.compile(optimizer=tf.optimizers.Adam(learning_rate=0.1), loss=negloglik)
    model.fit(x, y, epochs=100, verbose=False)
    slope, intercept = np.polyfit(x[:, 0], y, 1)
    kernel, bias = (np.squeeze(w.numpy()) for w in model.weights)
    assert kernel == pytest.approx(slope, abs=0.05)
    assert bias == pytest.approx(intercept, abs=0.05)
    yhat = model(x)
    assert isinstance(yhat, tfd.Distribution)
    np.testing.assert_allclose(yhat.mean(), kernel * x + bias, rtol=1e-5)


def test_regression_aleatoric_uncertainty():
    x, y = line_with_noise()
    model = tfk.Sequential(
        [
            tfkl.Dense(1 + 1),
            tfpl.DistributionLambda(
                lambda t: tfd.Normal(
                    loc=t[..., :1], scale=1e-3 + tf.math.softplus(0.5 * t[..., 1:])
                )
            ),
        ]
    )
    model.compile(optimizer=tf.optimizers.Adam(learning_rate=0.05), loss=negloglik)
    model.fit(x, y, epochs=150, verbose=False)
    yhat = model(np.array([[-1.0], [1.0]], "float32"))
    low, high = np.ravel(yhat.stddev())
    assert low == pytest.approx(0.1, abs=0.1)
    assert high == pytest.approx(0.9, abs=0.2)


class RBFKernelFn(tf.keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        dtype = kwargs.get("dtype")
        self._amplitude = self.add_weight(
            initializer=tf.constant_initializer(0), dtype=dtype, name="amplitude"
        )
        self._length_scale = self.add_weight(
            initializer=tf.constant_initializer(0), dtype=dtype, name="length_scale"
        )

    def call(self, x):
        return x

    @property
    def kernel(self):
        return tfp.math.psd_kernels.ExponentiatedQuadratic(
            amplitude=tf.nn.softplus(0.1 * self._amplitude),
            length_scale=tf.nn.softplus(5.0 * self._length_scale),
        )


@pytest.mark.filterwarnings("ignore:Argument `input_shape` is deprecated")  # Keras 3, for its own
@pytest.mark.slow
@pytest.mark.parametrize("floatx", ["float32", "float64"])
def test_regression_functional_uncertainty(floatx):
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx(floatx)
    tf.keras.config.set_dtype_policy(floatx)  # follows by itself in a fresh process
    try:
        # From other starts so short a training has not yet come to rest.
        keras.utils.set_random_seed({"float32": 1, "float64": 20}[floatx])
        x, y = line_with_noise(dtype=floatx)
        num_inducing_points = 10
        model = tf.keras.Sequential(
            [
                tf.keras.layers.InputLayer(input_shape=[1]),
                tf.keras.layers.Dense(1, kernel_initializer="ones", use_bias=False),
                tfpl.VariationalGaussianProcess(
                    num_inducing_points=num_inducing_points,
                    kernel_provider=RBFKernelFn(),
                    event_shape=[1],
                    inducing_index_points_initializer=tf.constant_initializer(
                        np.linspace(-1, 1, num=num_inducing_points, dtype=x.dtype)[..., np.newaxis]
                    ),
                    unconstrained_observation_noise_variance_initializer=(
                        tf.constant_initializer(np.array(0.54).astype(x.dtype))
                    ),
                ),
            ]
        )
        batch_size = 30
        loss = lambda y, rv_y: rv_y.variational_loss(  # noqa: E731
            y, kl_weight=np.array(batch_size, x.dtype) / x.shape[0]
        )
        model.compile(optimizer=tf.optimizers.Adam(learning_rate=0.05), loss=loss)
        losses = model.fit(x, y, batch_size=batch_size, epochs=150, verbose=False).history["loss"]
        assert losses[-1] < losses[0]
        yhat = model(np.array([[-0.5], [0.5]], x.dtype))
        assert isinstance(yhat, tfd.Distribution)
        np.testing.assert_allclose(np.ravel(yhat.mean()), [-0.5, 1.5], atol=0.4)
        assert yhat.sample(3).shape == (3, 2, 1)
    finally:
        tf.keras.backend.set_floatx(before)


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")  # Keras 3, for any dataset
@pytest.mark.filterwarnings("ignore:Argument `input_shape` is deprecated")  # Keras 3, for its own
@pytest.mark.filterwarnings("ignore:The structure of `inputs`")  # Keras 3, for a list of one input
def test_vae():
    input_shape, encoded_size, base_depth = (8, 8, 1), 2, 4
    generator = np.random.default_rng(1)
    filled = generator.integers(0, 2, size=(96, 2, 2, 1)).astype("float32")
    images = np.kron(filled, np.ones((1, 4, 4, 1), "float32"))
    images = np.abs(images - (generator.uniform(size=images.shape) < 0.05)).astype("float32")
    train_dataset = tf.data.Dataset.from_tensor_slices((images, images)).batch(16)

    prior = tfd.Independent(
        tfd.Normal(loc=tf.zeros(encoded_size), scale=1), reinterpreted_batch_ndims=1
    )
    encoder = tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=input_shape),
            tfkl.Lambda(lambda x: tf.cast(x, tf.float32) - 0.5),
            tfkl.Conv2D(base_depth, 5, strides=2, padding="same", activation=tf.nn.leaky_relu),
            tfkl.Conv2D(4 * encoded_size, 4, strides=1, activation=tf.nn.leaky_relu),
            tfkl.Flatten(),
            tfkl.Dense(tfpl.MultivariateNormalTriL.params_size(encoded_size), activation=None),
            tfpl.MultivariateNormalTriL(
                encoded_size, activity_regularizer=tfpl.KLDivergenceRegularizer(prior, weight=1.0)
            ),
        ]
    )
    decoder = tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=[encoded_size]),
            tfkl.Reshape([1, 1, encoded_size]),
            tfkl.Conv2DTranspose(base_depth, 4, padding="valid", activation=tf.nn.leaky_relu),
            tfkl.Conv2DTranspose(
                base_depth, 5, strides=2, padding="same", activation=tf.nn.leaky_relu
            ),
            tfkl.Conv2D(filters=1, kernel_size=5, strides=1, padding="same", activation=None),
            tfkl.Flatten(),
            tfpl.IndependentBernoulli(input_shape, tfd.Bernoulli.logits),
        ]
    )
    vae = tfk.Model(inputs=encoder.inputs, outputs=decoder(encoder.outputs[0]))
    vae.compile(optimizer=tf.optimizers.Adam(learning_rate=0.01), loss=negloglik)
    losses = vae.fit(train_dataset, epochs=20, validation_data=train_dataset, verbose=False).history
    assert losses["loss"][-1] < 0.7 * losses["loss"][0]
    assert np.isfinite(losses["val_loss"]).all()

    xhat = vae(images[:10])
    assert isinstance(xhat, tfd.Distribution)
    assert xhat.sample().shape == xhat.mode().shape == (10, 8, 8, 1)
    xtilde = decoder(prior.sample(10))
    assert isinstance(xtilde, tfd.Distribution)
    assert xtilde.mean().shape == (10, 8, 8, 1)
    z = encoder(images)
    draws = z.sample(100)
    kl = tf.reduce_mean(z.log_prob(draws) - prior.log_prob(draws))
    assert 0.5 < kl < 10.0
