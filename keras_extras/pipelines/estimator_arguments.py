"""Arguments that the probabilistic estimators share, for their docstrings."""

NETWORK = """
    method: String, the way to find the uncertainty of the weights. `"ensemble"`: several networks
        from different starts. `"flipout"` and `"local_reparameterization"`: variational layers.
        `"mc_dropout"`: dropout, in prediction, too. `"laplace"`: a normal approximation around
        the mode, with the prior that predicts the rows of the left-out fold best. `"nuts"`: Markov
        chains from several modes. `"mclmc"`: chains of microcanonical Langevin from several modes,
        known as microcanonical Langevin ensembles (MILE). Defaults to `"ensemble"`.
    hidden_units: Sequence of integers, the widths of the hidden layers. Defaults to `(50,)`.
    activation: String, name of their activation function. Defaults to `"relu"`.
    """

TRAINING = """
    epochs: Integer, passes over the data. Defaults to `100`.
    batch_size: Integer, rows of a training step. Defaults to `32`.
    learning_rate: Float, Adam's at the start, from where it falls to 0 along a cosine. Defaults
        to `0.01`.
    prior_stddev: Float, the standard deviation of the normal prior of all weights, for inputs
        and targets of standard deviation 1. Defaults to `1.0`.
    dropout_rate: Float, the share that `"mc_dropout"` drops. Defaults to `0.05`.
    num_members: Integer, networks of an `"ensemble"` in each of five folds, chains of `"nuts"`
        and `"mclmc"` in all. Defaults to `5`.
    num_samples: Integer, draws of the weights in a prediction, where members of an ensemble are
        not the draws. Defaults to `200`.
    num_burnin_steps: Integer, warm-up transitions of each chain of `"nuts"` and `"mclmc"`, of ten
        steps each for the latter. Defaults to `200`.
    verbose: Integer, of `keras.Model.fit`. Defaults to `0`.
    random_state: Integer seed, `numpy.random.RandomState` or `None`, as in scikit-learn.
        Defaults to `None`.
    """
