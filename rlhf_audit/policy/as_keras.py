"""A policy as a Keras model, for whoever wants to use it elsewhere."""

from typing import Any

from rlhf_audit.determinism import tensorflow
from rlhf_audit.policy.heads import places
from rlhf_audit.policy.network import NetworkSpec
from rlhf_audit.types import Weights


def keras_model(spec: NetworkSpec, weights: Weights) -> Any:
    """Return a Keras model of the policy, ``(n, observation_dim)`` to ``(n, n_outputs)``.

    Its outputs are the probabilities of each dimension's choices, and the means of its Gaussians, side by
    side; a Gaussian's spread is in ``weights`` alone. It agrees with ``heads.opinions`` to 1e-5, not to the
    bit.
    """
    keras = tensorflow().keras
    layers = keras.layers
    row = hidden = keras.Input((spec.observation_dim,))
    if spec.image:
        hidden = layers.Reshape(spec.image)(hidden)
        for number, (filters, side, stride) in enumerate(spec.convolutions):
            convolution = layers.Conv2D(filters, side, stride, activation="relu", name=f"conv_{number}")
            hidden = convolution(hidden)
        hidden = layers.Flatten()(hidden)
    for layer, units in enumerate(spec.hidden):
        hidden = layers.Dense(units, activation="relu", name=f"hidden_{layer}")(hidden)
    outputs = layers.Dense(spec.n_outputs, name="policy")(hidden)
    parts = [
        layers.Softmax()(outputs[:, place]) if choices else outputs[:, place]
        for choices, place in places(spec.heads)
    ]
    model = keras.Model(row, parts[0] if len(parts) == 1 else layers.Concatenate()(parts))
    arrays = [array for _, array in weights][: 2 * len(spec.kernels)]
    model.set_weights(
        [array.reshape(own.shape) for array, own in zip(arrays, model.get_weights(), strict=True)]
    )
    return model
