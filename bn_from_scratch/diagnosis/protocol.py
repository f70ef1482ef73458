"""What a layer is put through to be recorded: inputs that tell the causes apart."""

import numpy as np

STEPS = 3
# N and all that follows the channels.
SHAPES: dict[int, tuple[int, ...]] = {
    2: (24,),
    3: (8, 7),
    4: (8, 5, 4),
    5: (4, 3, 5, 2),
}

PLAIN, FAINT, FAR = (1.5, 2.0), (0.3, 0.004), (1e4, 1.0)  # mean and std of a channel


def start(num_features: int, dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
    """gamma, beta, moving_mean and moving_var [C], none like another or a default."""
    rng = np.random.default_rng((seed, num_features))
    ranges = {
        "gamma": (0.5, 2),
        "beta": (-2, -0.5),
        "moving_mean": (0.5, 2),
        "moving_var": (2, 4),
    }
    return {
        name: rng.uniform(low, high, num_features).astype(dtype)
        for name, (low, high) in ranges.items()
    }


def calls(
    num_features: int, num_dims: int, dtype: str, seed: int = 0
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Pairs (event, {"X": ..., "dY": ...}) of the whole protocol, in order.

    Steps of training, a prediction, and a training step in 16 bits.
    """
    rng = np.random.default_rng((seed, num_features, num_dims))
    N, *rest = SHAPES[num_dims]
    shape = N, num_features, *rest
    found = []
    for step in range(1, STEPS + 1):
        X, dY = _images(rng, shape, step), rng.normal(size=shape)
        found.append((f"step{step}", {"X": X.astype(dtype), "dY": dY.astype(dtype)}))
    X = _images(rng, shape, 1).astype(dtype)
    found.append(("prediction", {"X": X}))
    half = 300 * rng.normal(size=shape)  # its variance is beyond float16
    dY = rng.normal(size=shape)
    found.append(("half", {"X": half.astype("float16"), "dY": dY.astype("float16")}))
    return found


def _images(rng, shape, step):
    """X [N, C, *] with a channel whose variance is about eps, and one far from 0.

    A layer with fewer than three channels has one after the other.
    """
    C = shape[1]
    kinds = [PLAIN, FAINT, FAR, *[PLAIN] * C][:C]
    if C < 3:
        kinds = [(PLAIN, FAINT, FAR)[step - 1]] * C
    mean, std = (np.array(v) for v in zip(*kinds, strict=True))
    spread = 1 + np.arange(C) / C  # every channel has its own
    broadcast = (1, C) + (1,) * (len(shape) - 2)
    X = rng.normal(size=shape) * (std * spread).reshape(broadcast)
    shift = rng.normal(size=C) * std  # every batch has another mean
    return X + (mean * spread + shift).reshape(broadcast)
