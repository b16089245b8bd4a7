"""All layers of a model, those within other layers and models included.

Read is `_flatten_layers`; the public `layers` of a model ends at layers that hold layers. It is
asked of models without a layer of ours, too, to find out; so that their training goes on in a
version that has it no longer, the layers of the public attribute are found there. Known to hold
since Keras 3.12. A public iterator such as `keras.Model.walk_layers` would make it unnecessary.
"""

import keras


def layers_within(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the model and the layers in it."""
    flatten = getattr(model, "_flatten_layers", None)
    return list(flatten()) if flatten else [model, *model.layers]
