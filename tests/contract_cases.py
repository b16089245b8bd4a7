"""One list of constructors for the contract: a class is covered the moment it stands here.

Constructors use arguments other than the defaults, so that a configuration that loses one shows,
and start weights away from the bounds of their constraints, so that one step moves them.
"""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from contract import LayerCase, LossCase, MetricCase, OptimizerCase
from probability import tfd

import keras_extras

_GENERATOR = np.random.default_rng(3)
_ROWS = _GENERATOR.normal(size=(12, 5)).astype("float32")
_SEQUENCES = _GENERATOR.normal(size=(12, 4, 3)).astype("float32")
_IMAGES = _GENERATOR.normal(size=(12, 2, 2, 3)).astype("float32")
_INTEGERS = _GENERATOR.integers(-9, 9, size=(12, 5)).astype("int32")

_WITH_GAPS = _ROWS.copy()
_WITH_GAPS[::3, 0] = -999.0
_WITH_GAPS[1::4, 2] = np.nan

_LABELS = (np.arange(24) % 2).astype("float32")[:, None]
_PROBABILITIES = np.clip(
    0.3 + 0.4 * _LABELS + _GENERATOR.normal(scale=0.3, size=(24, 1)), 0.01, 0.99
).astype("float32")


def _einstein(form: str) -> keras.layers.Layer:
    return keras_extras.layers.EinsteinLatent(
        6,
        form=form,
        alpha_initializer=keras.initializers.Constant(1.5),
        beta_initializer=keras.initializers.Constant(0.5),
        use_bias=True,
        activation="tanh",
        kernel_regularizer="l2",
        epsilon=1e-2,
    )


def _scale_shift() -> keras.layers.Layer:
    return keras_extras.layers.ScaleShift(
        scale_initializer=keras.initializers.Constant(2.0),
        shift_initializer=keras.initializers.Constant(0.5),
        shift_regularizer="l1",
    )


def _imputer(**arguments) -> keras.layers.Layer:
    layer = keras_extras.layers.MissingValueImputer(strategy="mean", **arguments)
    layer.adapt(_WITH_GAPS)
    return layer


def _random_features() -> keras.layers.Layer:
    layer = keras_extras.layers.RandomFeatureGaussianProcess(
        3,
        num_features=20,
        length_scale=2.0,
        prior_stddev=2.0,
        noise_stddev=0.5,
        kernel_initializer="ones",
        kernel_regularizer="l2",
        seed=5,
    )
    layer(_ROWS, training=True)
    layer.end_epoch()
    return layer


def _anew(argument):
    """Layers in layers are not shared, so that no test builds those of another."""
    is_layer = isinstance(argument, keras.layers.Layer)
    return type(argument).from_config(argument.get_config()) if is_layer else argument


def _head(name: str, *arguments, **keywords) -> LayerCase:
    """A named layer of distributions, on rows of the width that it needs and on sequences."""

    def make():
        cls = getattr(keras_extras.layers, name)
        return cls(*map(_anew, arguments), convert_to_tensor_fn=tensor, seed=5, **keywords)

    tensor = keywords.pop("tensor", "mean")
    width = make().num_params
    rows = _GENERATOR.normal(size=(12, width)).astype("float32")
    sequences = _GENERATOR.normal(size=(12, 4, width)).astype("float32")
    return LayerCase(name, make, rows, (sequences,), keeps_float32=True)


@keras.saving.register_keras_serializable(__name__)
def _make_normal(t):
    return tfd.Independent(tfd.Normal(t[..., :2], 0.1 + t[..., 2:4] ** 2), 1)


@keras.saving.register_keras_serializable(__name__)
def _first_input_fades(x):
    return x * np.array([1.0, 0.0, 0.0, 0.0, 0.0], "float32")


def _network() -> keras.layers.Layer:
    return keras_extras.layers.AutoregressiveNetwork(
        3,
        event_shape=5,
        hidden_units=[16],
        input_order="right-to-left",
        activation="tanh",
        kernel_regularizer="l2",
    )


def _variational(name: str, *arguments, inputs=None, more_inputs=(), **keywords) -> LayerCase:
    """A layer with Bayesian weights, whose bias has a posterior, too."""

    def make():
        cls = getattr(keras_extras.layers, name)
        return cls(*arguments, activation="tanh", kl_weight=0.01, seed=5, **keywords)

    rows = _ROWS if inputs is None else inputs
    return LayerCase(f"{name}{sorted(keywords.items())}", make, rows, more_inputs)


def _penalized(name: str, *arguments, **keywords) -> LayerCase:
    """A penalty on derivatives, which is a layer around a layer though an objective."""

    def make():
        cls = getattr(keras_extras.layers, name)
        return cls(keras.layers.Dense(3, "tanh"), *arguments, **keywords)

    return LayerCase(f"{name}{sorted(keywords.items())}", make, _ROWS, (_ROWS[:, None],))


def _wrapped(make_layer: Callable, inputs: np.ndarray, **keywords) -> LayerCase:
    """Any layer with uncertain weights, whose precision is that of the policy when it is made."""

    def make():
        arguments = {"kl_weight": 0.01, "initial_stddev": 0.1, "seed": 5, **keywords}
        return keras_extras.layers.Variational(make_layer(), **arguments)

    layer = make_layer()
    name = f"Variational-{type(layer).__name__}{sorted(keywords.items())}"
    return LayerCase(name, make, inputs, passes_mask=layer.supports_masking)


LAYERS = [
    _wrapped(
        lambda: keras.layers.Dense(3, "tanh", bias_initializer="ones"), _ROWS, prior="trainable"
    ),
    _wrapped(
        lambda: keras.layers.GRU(3, recurrent_initializer="he_normal", return_sequences=True),
        _SEQUENCES,
        posterior={"*bias": "deterministic", "*": "mean_field"},
        prior={"*bias": tfd.Laplace(0.0, 2.0), "*": "pretrained"},
    ),
    _penalized("SensitivityPenalty", _first_input_fades, weight=0.3),
    _penalized("GradientPenalty", weight=0.3, target_norm=0.5),
    _penalized("GradientPenalty", weight=0.3, num_projections=2, seed=5),
    _variational("DenseReparameterization", 4, posterior="mean_field", prior="trainable"),
    _variational("DenseReparameterization", 2, kernel_posterior_fn="multivariate_normal"),
    _variational("DenseReparameterization", 2, prior="scale_mixture", posterior="mean_field"),
    _variational("DenseFlipout", 4, more_inputs=(_SEQUENCES.repeat(2, axis=-1)[..., :5],)),
    _variational("DenseFlipout", 4, prior=tfd.Laplace(0.0, 2.0), posterior="mean_field"),
    _variational("DenseLocalReparameterization", 4),
    _variational("DenseVariational", 3, posterior="mean_field", kl_use_exact=True),
    _variational("DenseVariational", 3, posterior="multivariate_normal", prior="trainable"),
    *(
        _variational(
            f"Convolution{rank}D{kind}",
            4,
            2,
            strides=2,
            padding="same",
            inputs=_GENERATOR.normal(size=(6, *(4,) * rank, 3)).astype("float32"),
        )
        for rank in (1, 2, 3)
        for kind in ("Reparameterization", "Flipout")
    ),
    LayerCase(
        "MCDropout", lambda: keras_extras.layers.MCDropout(0.3, seed=5), _ROWS, (_SEQUENCES,)
    ),
    _head("Categorical", 4, tensor="logits"),
    _head("CategoricalMixtureOfOneHotCategorical", 3, 2),
    _head("IndependentBernoulli", (2, 3), sample_dtype="int32"),
    _head("IndependentBeta", (2,)),
    _head("IndependentGamma", (2,)),
    _head("IndependentLaplace", 2),
    _head("IndependentLogistic", (2,)),
    _head("IndependentNegativeBinomial", (2,)),
    _head("IndependentNormal", (2, 2)),
    _head("IndependentPoisson", (2,)),
    _head("IndependentStudentT", (2,)),
    _head("MixtureLogistic", 2, (3,)),
    _head("MixtureNormal", 2),
    _head("MixtureSameFamily", 2, keras_extras.layers.IndependentLaplace((2,))),
    _head("MultivariateNormalDiag", 2),
    _head("MultivariateNormalTriL", 3),
    _head("OneHotCategorical", 3),
    _head("ZeroInflated", keras_extras.layers.IndependentPoisson((2,))),
    LayerCase(
        "DistributionLambda",
        lambda: keras_extras.layers.DistributionLambda(_make_normal, "mean", seed=5),
        _ROWS,
        (_SEQUENCES.repeat(2, axis=-1),),
        keeps_float32=True,
    ),
    LayerCase("AutoregressiveNetwork", _network, _ROWS, (_ROWS[:, None],), passes_mask=False),
    *(
        LayerCase(
            f"EinsteinLatent-{form}",
            partial(_einstein, form),
            _ROWS,
            (_SEQUENCES, _IMAGES, _INTEGERS),
        )
        for form in ("field_equation", "linear", "log", "inverse", "diagonal", "tensor")
    ),
    LayerCase("RandomFeatureGaussianProcess", _random_features, _ROWS, passes_mask=False),
    LayerCase("ScaleShift", _scale_shift, _ROWS, (_SEQUENCES, _IMAGES, _INTEGERS)),
    LayerCase(
        "TemperatureScaling",
        lambda: keras_extras.layers.TemperatureScaling(from_logits=True, temperature=1.5),
        _ROWS,
        (_SEQUENCES, _IMAGES, _INTEGERS),
    ),
    LayerCase("MissingValueImputer", _imputer, _WITH_GAPS, (_ROWS[:, None], _INTEGERS)),
    LayerCase("MissingValueImputer-indicator", partial(_imputer, add_indicator=True), _WITH_GAPS),
]

OPTIMIZERS = [
    OptimizerCase(
        "SGLD",
        lambda learning_rate=0.05, **arguments: keras_extras.optimizers.SGLD(
            learning_rate, prior_stddev=2.0, num_samples=5, thinning_steps=2, seed=1, **arguments
        ),
    ),
    OptimizerCase(
        "CyclicalSGLD",
        lambda learning_rate=0.05, **arguments: keras_extras.optimizers.CyclicalSGLD(
            learning_rate, cycle_steps=8, exploration=0.5, thinning_steps=2, seed=1, **arguments
        ),
    ),
    OptimizerCase(
        "CMAES",
        lambda **arguments: keras_extras.optimizers.CMAES(
            population_size=16, sigma=0.2, generations_per_batch=1, seed=1, **arguments
        ),
    ),
    OptimizerCase(
        "HypergradientSGD",
        lambda **arguments: keras_extras.optimizers.HypergradientSGD(momentum=0.5, **arguments),
        scheduled=None,
    ),
    OptimizerCase("HypergradientAdam", keras_extras.optimizers.HypergradientAdam, scheduled=None),
    OptimizerCase(
        "IVON",
        lambda learning_rate=0.05, **arguments: keras_extras.optimizers.IVON(
            learning_rate, beta_2=0.9, num_samples=2, clip_radius=5.0, seed=1, **arguments
        ),
    ),
    OptimizerCase("LBFGS", keras_extras.optimizers.LBFGS),
    OptimizerCase(
        "NewtonCG",
        lambda **arguments: keras_extras.optimizers.NewtonCG(hessian="full", **arguments),
    ),
    OptimizerCase("LevenbergMarquardt", keras_extras.optimizers.LevenbergMarquardt),
    OptimizerCase("SSBroyden", keras_extras.optimizers.SSBroyden),
    OptimizerCase(
        "MonteCarloOptimizer",
        lambda **arguments: keras_extras.optimizers.MonteCarloOptimizer(
            population_size=16, seed=1, **arguments
        ),
    ),
    OptimizerCase(
        "QuantizedSearch",
        lambda **arguments: keras_extras.optimizers.QuantizedSearch(
            population_size=16, scales=True, seed=1, **arguments
        ),
        quantization="int8",
    ),
    OptimizerCase("SPSA", lambda **arguments: keras_extras.optimizers.SPSA(seed=1, **arguments)),
    OptimizerCase(
        "PartitionedOptimizer",
        lambda learning_rate=0.05: keras_extras.optimizers.PartitionedOptimizer(
            {
                "bias": keras_extras.optimizers.MonteCarloOptimizer(population_size=8, seed=1),
                "*": keras.optimizers.Adam(learning_rate),
            },
            name="parts",
        ),
        scheduled=lambda optimizer: optimizer.optimizers[1],
    ),
]

_TARGETS = _GENERATOR.normal(size=(24, 2)).astype("float32")
_PARAMETERS = _GENERATOR.normal(size=(24, 4)).astype("float32")


def _normal_head() -> keras.layers.Layer:
    return keras_extras.layers.IndependentNormal((2,), convert_to_tensor_fn="mean")


LOSSES = [
    LossCase(
        "NegativeLogLikelihood",
        lambda **arguments: keras_extras.losses.NegativeLogLikelihood(**arguments),
        _TARGETS,
        _PARAMETERS,
        _normal_head,
    ),
    LossCase(
        "ContinuousRankedProbabilityScore",
        lambda **arguments: keras_extras.losses.ContinuousRankedProbabilityScore(
            num_samples=50, seed=3, **arguments
        ),
        _TARGETS,
        _PARAMETERS,
        _normal_head,
    ),
    LossCase(
        "BetaNegativeLogLikelihood",
        lambda **arguments: keras_extras.losses.BetaNegativeLogLikelihood(beta=0.3, **arguments),
        _TARGETS,
        _PARAMETERS,
        _normal_head,
    ),
    LossCase(
        "ApproximateMedianSignificanceLoss",
        lambda: keras_extras.losses.ApproximateMedianSignificanceLoss(
            threshold=0.4, regularization=2.0, signal_total=30.0, background_total=50.0
        ),
        _LABELS,
        _PROBABILITIES,
        of_batch=True,
    ),
    LossCase(
        "AUCLoss",
        lambda: keras_extras.losses.AUCLoss(),
        _LABELS,
        _PROBABILITIES,
        of_batch=True,
    ),
    *(
        LossCase(
            f"{make().name}-{make().average}",
            make,
            (_TARGETS > 0).astype("float32"),
            _TARGETS + _PARAMETERS[:, :2],
            of_batch=True,
        )
        for make in (
            lambda: keras_extras.losses.F1Loss("micro", threshold=0.1),
            lambda: keras_extras.losses.FBetaLoss("weighted", beta=2.0, threshold=None),
        )
    ),
    LossCase(
        "ZeroOneLoss",
        lambda **arguments: keras_extras.losses.ZeroOneLoss(threshold=0.4, **arguments),
        _LABELS,
        _PROBABILITIES,
    ),
]

METRICS = [
    MetricCase(
        "ApproximateMedianSignificance",
        lambda: keras_extras.metrics.ApproximateMedianSignificance(),
        _LABELS,
        _PROBABILITIES,
    ),
    MetricCase(
        "BrierScore",
        lambda: keras_extras.metrics.BrierScore(from_logits=True),
        _LABELS,
        _PROBABILITIES,
    ),
    MetricCase(
        "ExpectedCalibrationError",
        lambda: keras_extras.metrics.ExpectedCalibrationError(num_bins=5),
        _LABELS,
        _PROBABILITIES,
    ),
    *(
        MetricCase(type(make()).__name__, make, _TARGETS, _PARAMETERS, _normal_head)
        for make in (
            lambda: keras_extras.metrics.NegativeLogLikelihood(),
            lambda: keras_extras.metrics.ContinuousRankedProbabilityScore(num_samples=50, seed=3),
            lambda: keras_extras.metrics.IntervalCoverage(level=0.8),
            lambda: keras_extras.metrics.IntervalWidth(level=0.8),
        )
    ),
]

# Nothing can be made of a class that leaves a method to its children.
ABSTRACT = {
    "AdamSearch",
    "BatchLoss",
    "ConvolutionFlipout",
    "ConvolutionReparameterization",
    "ConvolutionVariationalLayer",
    "DenseVariationalLayer",
    "DerivativeWrapper",
    "DirectionalSearch",
    "DistributionLayer",
    "DistributionLoss",
    "DistributionMean",
    "Head",
    "FlatWeightsOptimizer",
    "HypergradientOptimizer",
    "IndependentHead",
    "IndependentMixture",
    "IntervalMetric",
    "LineSearchOptimizer",
    "LossEvaluatingOptimizer",
    "MultivariateNormal",
    "PiecewiseConstantLoss",
    "PopulationOptimizer",
    "VariationalLayer",
}

# What does not take rows of numbers to rows of numbers has a life of its own, in its own tests.
OF_ANOTHER_KIND = {
    "AutoregressiveTransform": "takes distributions",
    "DivergenceWeight": "part of the layers of divergences, and never called",
    "ExponentiatedQuadraticKernel": "its weights do not show in its output",
    "KLDivergenceAddLoss": "takes distributions",
    "SobolevTraining": "its output is a dict",
    "VariableLayer": "its output has no batch axis",
    "VariationalGaussianProcess": "its rows depend on each other",
}
