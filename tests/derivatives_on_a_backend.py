"""Prints derivatives of a model and of its training as JSON, on the backend of KERAS_BACKEND."""

import json

import keras
import numpy as np

from keras_extras import autodiff, layers, unrolled

GENERATOR = np.random.default_rng(2)
X = GENERATOR.normal(size=(24, 3)).astype("float32")
Y = np.sin(X.sum(axis=1, keepdims=True))
DATA = {"x": X[:16], "y": Y[:16], "validation_data": (X[16:], Y[16:])}


def make_model() -> keras.Model:
    network = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model = keras.Sequential([keras.Input((3,)), layers.GradientPenalty(network, weight=0.1)])
    generator = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(size=variable.shape))
    model.compile("sgd", "mse")
    return model


def make_training(memory: str) -> unrolled.UnrolledTraining:
    return unrolled.UnrolledTraining(
        make_model(),
        keras.optimizers.SGD(0.05, momentum=0.75),
        "mse",
        steps=6,
        hyperparameters={"learning_rate": unrolled.PerStep(0.05), "momentum": 0.75, "l2/*": 0.01},
        batch_size=8,
        memory=memory,
    )


def numbers() -> dict[str, list]:
    model = make_model()
    vector = [GENERATOR.normal(size=v.shape) for v in model.trainable_variables]
    found = {
        "gradient": autodiff.gradient(model, X, Y),
        "hessian": autodiff.hessian_vector_product(model, X, Y, vector),
        "gauss_newton": autodiff.gauss_newton_vector_product(model, X, Y, vector),
        "jacobian": autodiff.jacobian(model, X, wrt="inputs"),
    }
    for memory in ("all", "checkpoints", "reversal"):
        found[memory] = make_training(memory).hypergradient(**DATA)
    training = make_training("all")
    history = training.fit(
        **DATA, meta_optimizer=keras.optimizers.SGD(0.5), meta_steps=3, verbose=0
    )
    found["learned"] = [training.hyperparameters, history.history["val_loss"]]
    model.fit(X, Y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    found["fit"] = model.get_weights()
    return {
        name: np.concatenate([np.ravel(part) for part in keras.tree.flatten(parts)]).tolist()
        for name, parts in found.items()
    }


if __name__ == "__main__":
    print(json.dumps(numbers()))
