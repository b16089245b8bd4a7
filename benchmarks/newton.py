"""LBFGS and NewtonCG in `fit` beside scikit-learn's solvers and Adam.

Two logistic regressions with C = 1, all rows as one batch: breast cancer (569 rows, 31 weights,
standardized) and digits (1,797 rows, 650 weights, divided by 16). All solvers stop where the
largest entry of the gradient is 1e-6; Adam takes 1,000 epochs. Printed are

- how far the loss is over the minimum, relative, and the coefficients from the best ones;
- how often loss and gradient were evaluated, the pass for the logs of each epoch not counted, and
  products with the Hessian. Scikit-learn's `lbfgs` runs SciPy's L-BFGS-B, whose own count is
  printed; of its `newton-cg` it tells iterations, and each takes an evaluation or more;
- the seconds of the fit: for Keras those of a second one, as the first compiles; for scikit-learn
  with one BLAS thread, as several wait for each other on problems of this size.

    python benchmarks/newton.py
"""

import os
import time
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import scipy.optimize
from common import command_line
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from keras_extras.callbacks import StopWhenConverged
from keras_extras.optimizers import LBFGS, NewtonCG

TOLERANCE = 1e-6


class Problem(NamedTuple):
    """Rows, integer labels and the kernel and bias at the minimum."""

    x: np.ndarray
    y: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray


class Run(NamedTuple):
    """What one method came to."""

    excess: float
    error: float
    evaluations: int
    products: int | None
    seconds: float


def problem(name: str) -> Problem:
    """One of the two, by name: `"breast cancer"` or `"digits"`."""
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        x = x / 16.0
    else:
        x, y = load_breast_cancer(return_X_y=True)
        x = StandardScaler().fit_transform(x)
    with threadpool_limits(1):
        best = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=1000).fit(x, y)
    return Problem(x, y, best.coef_.T, best.intercept_)


def loss_and_gradient(
    kernel: np.ndarray, bias: np.ndarray, p: Problem
) -> tuple[float, np.ndarray, np.ndarray]:
    """The penalized loss in double precision, and its gradient."""
    rows = np.arange(len(p.x))
    logits = p.x @ kernel + bias
    is_binary = logits.shape[1] == 1
    if is_binary:
        logits = np.concatenate([0.0 * logits, logits], axis=1)
    error = softmax(logits, axis=1)
    error[rows, p.y] -= 1.0
    error = error[:, 1:] if is_binary else error
    loss = -np.mean(log_softmax(logits, axis=1)[rows, p.y]) + 0.5 * np.sum(kernel**2) / len(rows)
    return loss, (p.x.T @ error + kernel) / len(rows), error.mean(0)


def measured(p: Problem, kernel, bias, *counts) -> Run:
    kernel, bias = np.asarray(kernel, "float64"), np.asarray(bias, "float64")
    minimum = loss_and_gradient(p.kernel, p.bias, p)[0]
    excess = loss_and_gradient(kernel, bias, p)[0] / minimum - 1.0
    return Run(excess, float(np.abs(kernel - p.kernel).max()), *counts)


def scipy_evaluations(p: Problem) -> int:
    """Evaluations of SciPy's L-BFGS-B with the options that scikit-learn gives it."""
    shape = p.kernel.shape

    def function(w):
        loss, *gradients = loss_and_gradient(w[: -shape[1]].reshape(shape), w[-shape[1] :], p)
        return loss, np.concatenate([g.ravel() for g in gradients])

    options = {"maxiter": 10_000, "maxls": 50, "gtol": TOLERANCE, "ftol": 64 * np.finfo(float).eps}
    start = np.zeros(p.kernel.size + p.bias.size)
    with threadpool_limits(1):
        return scipy.optimize.minimize(
            function, start, method="L-BFGS-B", jac=True, options=options
        ).nfev


def run_scikit_learn(p: Problem, solver: str) -> Run:
    regression = LogisticRegression(solver=solver, tol=TOLERANCE, max_iter=10_000)
    start = time.perf_counter()
    with threadpool_limits(1):
        regression.fit(p.x, p.y)
    seconds = time.perf_counter() - start
    count = scipy_evaluations(p) if solver == "lbfgs" else int(regression.n_iter_[0]) + 1
    return measured(p, regression.coef_.T, regression.intercept_, count, None, seconds)


def run_keras(p: Problem, optimizer: Any, epochs: int) -> Run:
    penalty = keras.regularizers.L2(0.5 / len(p.x))
    dense = keras.layers.Dense(
        p.kernel.shape[1], kernel_initializer="zeros", kernel_regularizer=penalty
    )
    model = keras.Sequential([keras.Input((p.x.shape[1],)), dense])
    is_binary = p.kernel.shape[1] == 1
    losses = keras.losses
    loss_class = losses.BinaryCrossentropy if is_binary else losses.SparseCategoricalCrossentropy
    model.compile(optimizer, loss_class(from_logits=True))
    optimizer.build(model.trainable_variables)
    x = p.x.astype("float32")
    y = p.y[:, None].astype("float32") if is_binary else p.y
    variables = [*model.weights, *optimizer.variables]
    values = [v.numpy() for v in variables]
    model.fit(x, y, batch_size=len(x), verbose=0)
    for variable, value in zip(variables, values):
        variable.assign(value)
    callbacks = [StopWhenConverged()] if hasattr(optimizer, "converged") else []
    start = time.perf_counter()
    fitted = model.fit(*(x, y), batch_size=len(x), epochs=epochs, callbacks=callbacks, verbose=0)
    seconds = time.perf_counter() - start
    evaluations = getattr(optimizer, "evaluations", len(fitted.epoch))
    products = getattr(optimizer, "hessian_products", None)
    return measured(p, *model.get_weights(), evaluations, products, seconds)


def methods(epochs: int) -> dict[str, Any]:
    """Functions from a problem to a run, by the names of the table."""
    return {
        "scikit-learn lbfgs": lambda p: run_scikit_learn(p, "lbfgs"),
        "LBFGS": lambda p: run_keras(p, LBFGS(tolerance=TOLERANCE), 200),
        "scikit-learn newton-cg": lambda p: run_scikit_learn(p, "newton-cg"),
        "NewtonCG": lambda p: run_keras(p, NewtonCG(tolerance=TOLERANCE), 200),
        "Adam(0.01)": lambda p: run_keras(p, keras.optimizers.Adam(0.01), epochs),
    }


def main(epochs: int = 1000) -> dict[str, dict[str, Run]]:
    """Prints the tables; returns the runs by problem and method."""
    results = {}
    for name in ("breast cancer", "digits"):
        p = problem(name)
        results[name] = runs = {}
        print(f"\n{name}: {len(p.x):,} rows, {p.kernel.size + p.bias.size} weights")
        titles = ("loss over minimum", "coefficients", "evaluations", "products", "seconds")
        print(f"{'':24}" + " ".join(f"{title:>{max(8, len(title))}}" for title in titles))
        for method, run_method in methods(epochs).items():
            runs[method] = run = run_method(p)
            print(
                f"{method:24}{run.excess:17.1e} {run.error:12.1e} {run.evaluations:11,} "
                f"{'' if run.products is None else run.products:>8} {run.seconds:8.2f}",
                flush=True,
            )
        for ours, theirs in (("LBFGS", "lbfgs"), ("NewtonCG", "newton-cg")):
            ratio = runs[ours].evaluations / runs[f"scikit-learn {theirs}"].evaluations
            print(f"evaluations of {ours} / scikit-learn's {theirs}: {ratio:.2f}")
    return results


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--epochs", type=int, default=1000, help="how many Adam gets")
    main(**vars(parser.parse_args()))
