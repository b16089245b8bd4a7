"""Arguments that the hypermodels share, for their docstrings."""

from keras_extras._core.docstrings import fill_text

RAISES = """
    Raises:
        TypeError: If `space` is no dict.
        ValueError: If an entry of `space` is unknown or empty.
    """
RAISES_OF_TASK = RAISES.replace("If an entry", "If `task` is unknown, or an entry")


def space_arguments(name: str) -> str:
    """Returns the last arguments of a hypermodel for its docstring, `name` by default."""
    return f"""
        space: Dict from names of the table to what takes their place: a hyperparameter of
            `keras_tuner.engine.hyperparameters`, whose name is taken over, a list of choices, or a
            constant. Defaults to `None`.
        name: String. Defaults to `"{name}"`.
        tunable: Boolean, as in `keras_tuner.HyperModel`. Defaults to `True`.
        """


def sections_of_likelihood(name: str, raises: str) -> str:
    """Returns the end of the arguments, and the errors, of a hypermodel of distributions."""
    return fill_text(
        """
            preprocessor: Keras layer before the network, adapted and not trained. Defaults to
                `None`.
            metrics: List of metrics beside `"nll"`, as in `keras.Model.compile`. Defaults to
                `None`.
            {space}

        {raises}
        """,
        space=space_arguments(name),
        raises=raises,
    )
