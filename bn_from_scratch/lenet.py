"""LeNet as data: its parameters, where they start, and how two layouts map.

The network is that of the d2l chapter: conv 6@5x5, norm, sigmoid, average pool 2;
conv 16@5x5, norm, sigmoid, pool; dense 120, norm, sigmoid; dense 84, norm, sigmoid;
dense 10.
Weights travel as NumPy arrays, channels first, in the order of `SHAPES`.
"""

import numpy as np

IMAGE = (1, 28, 28)  # C, H, W
CLASSES = 10

SHAPES: dict[str, tuple[int, ...]] = {  # conv [out, in, kh, kw], dense [out, in]
    "conv1": (6, 1, 5, 5),
    "conv2": (16, 6, 5, 5),
    "dense1": (120, 16 * 4 * 4),
    "dense2": (84, 120),
    "dense3": (CLASSES, 84),
}
FLATTENED = (16, 4, 4)  # C, H, W of what dense1 reads
LAYERS = "conv1 bn1 conv2 bn2 dense1 bn3 dense2 bn4 dense3".split()  # with weights


def initial_weights(seed: int = 0, dtype: str = "float32") -> dict[str, np.ndarray]:
    """The weights that a seed gives in every framework: {"conv1.weight": array, ...}.

    Xavier-uniform weights (Glorot and Bengio 2010) and zero biases, drawn by NumPy.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in SHAPES.items():
        field = np.prod(shape[2:], dtype=int)
        limit = np.sqrt(6 / ((shape[0] + shape[1]) * field))
        weights[f"{name}.weight"] = rng.uniform(-limit, limit, shape).astype(dtype)
        weights[f"{name}.bias"] = np.zeros(shape[0], dtype)
    return weights


def to_channels_last(name: str, array: np.ndarray) -> np.ndarray:
    """A parameter in the layout of TensorFlow and JAX: [kh, kw, in, out], [in, out].

    dense1 reads a flattened [H, W, C] there, so its rows are permuted too.
    """
    if name == "dense1.weight":
        array = array.reshape(-1, *FLATTENED).transpose(2, 3, 1, 0)
        return array.reshape(-1, array.shape[-1])
    if name.endswith(".weight"):
        return array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
    return array


def to_channels_first(name: str, array: np.ndarray) -> np.ndarray:
    """The inverse of `to_channels_last`; the arrays are contiguous."""
    if name == "dense1.weight":
        C, H, W = FLATTENED
        array = array.reshape(H, W, C, -1).transpose(3, 2, 0, 1)
        array = array.reshape(array.shape[0], -1)
    elif name.endswith(".weight"):
        array = array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)
    return np.ascontiguousarray(array)


def position(name: str) -> tuple[int, int]:
    """Where a layer or parameter stands in the network, as a key to sort by.

    Layers that are not LeNet's come last.
    """
    layer, _, parameter = name.partition(".")
    parameters = "weight bias gamma beta moving_mean moving_var".split()
    place = LAYERS.index(layer) if layer in LAYERS else len(LAYERS)
    return place, parameters.index(parameter) if parameter in parameters else -1
