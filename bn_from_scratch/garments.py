"""Ten classes of garments drawn by code: what to train on where Fashion-MNIST is not.

The classes, their order, the size and the type are those of Fashion-MNIST; the pictures
are not. Each garment is a few signed distances (below 0 inside, in pixels) over a grid
that is moved, turned, scaled and slanted at random, then filled, patterned and spoiled.
Proportions overlap on purpose: a shirt with long sleeves and a faint placket is nearly
a pullover, so no model gets everything right.

Only +, -, *, /, sqrt, comparisons and uniform draws are used: IEEE 754 rounds those the
same way on every machine, so the same seed gives the same bytes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

SIZE = 28
CHUNK = 250  # images drawn at once: small enough for their arrays to stay in the cache


def draw(
    n_train: int = 20_000, n_test: int = 5_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 [N, 28, 28] and labels int64 [N], for training and for testing.

    The classes are balanced (their sizes differ by one at most) and in random order.
    """
    return (*_split(n_train, (seed, 0)), *_split(n_test, (seed, 1)))


def _split(n: int, seed: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n, dtype=np.int64) % len(GARMENTS))
    images = np.empty((n, SIZE, SIZE), np.uint8)
    for label, garment in enumerate(GARMENTS):
        places = np.flatnonzero(labels == label)
        for start in range(0, len(places), CHUNK):
            chunk = places[start : start + CHUNK]
            images[chunk] = _pictures(garment, len(chunk), rng)
    return images, labels


def _pictures(garment, n, rng):
    def r(low, high):  # one uniform number per image [n, 1, 1]
        return low + (high - low) * rng.random((n, 1, 1), np.float32)

    u, v = _grid(r)
    light = garment(u, v, r) * r(0.35, 1) * _pattern(u, v, r)
    # A patch of shadow hides a part of every third garment.
    patch = np.maximum(abs(u - r(-12, 12)) - r(2, 6), abs(v - r(-12, 12)) - r(2, 6))
    light *= 1 - r(0.5, 1) * (r(0, 3) < 1) * _fill(patch)
    grain = rng.random(u.shape, np.float32) + rng.random(u.shape, np.float32) - 1
    light += grain * r(0.02, 0.25) * (0.25 + light)
    return (np.clip(light, 0, 1) * 255 + 0.5).astype(np.uint8)


def _grid(r):
    """Coordinates u (to the right) and v (down) of every pixel, 0 in the middle."""
    axis = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    x, y = axis[None, None, :] - r(-2, 2), axis[None, :, None] - r(-1.5, 1.5)
    t = r(-0.09, 0.09)  # the tangent of half the angle: a rotation without a sine
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    u, v = (cos * x + sin * y) / r(0.9, 1.2), (cos * y - sin * x) / r(0.92, 1.2)
    return u + r(-0.1, 0.1) * v, v


def _pattern(u, v, r):
    """Brightness between about 0.4 and 1: a fold of light, and stripes or checks."""
    wave = abs((u * r(-0.2, 0.2) + v * r(0.1, 0.25) + r(0, 1)) % 1 - 0.5)
    fold = 1 - r(0, 0.3) * abs(u + r(-8, 8)) / 10
    return fold * (1 - r(0, 1.2) * (r(0, 5) < 2) * wave)


def _fill(distance):
    return np.clip(0.5 - distance, 0, 1)


def _bar(x, y, x0, y0, x1, y1, radius):
    """Distance to a bar with round ends from (x0, y0) to (x1, y1)."""
    dx, dy = x1 - x0, y1 - y0
    t = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.sqrt((x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2) - radius


def _slab(x, y, top, bottom, w0, w1):
    """Distance to a shape whose half width goes from w0 at the top to w1 below."""
    half = w0 + (w1 - w0) * (y - top) / (bottom - top)
    return np.maximum(abs(x) - half, np.maximum(top - y, y - bottom))


def _top(u, v, r, *, hem, arm, spread, flare=0, opening=0, lapel=0, collar=0):
    """Anything with sleeves: arm is how far they reach down, spread how far out."""
    x, neck, shoulder = abs(u), r(1.8, 3.2), r(4.6, 6.2)
    torso = _slab(x, v, -10, hem, shoulder, r(4.5, 6) + flare)
    cuff = shoulder - 1 + spread, arm - 7.8
    sleeve = _bar(x, v, shoulder - 1, -7.8, *cuff, r(1.6, 2.4))
    hole = np.sqrt(x * x + (v + 10.5) ** 2) - neck
    front = abs(u + r(-0.7, 0.7)) - 0.4 - lapel * np.maximum(-4 - v, 0)
    cloth = _fill(np.maximum(np.minimum(torso, sleeve), -hole))
    cloth *= 1 - r(0.1, 0.6) * _fill(abs(np.maximum(torso, sleeve)) - 0.4)  # the seam
    cloth *= 1 - opening * _fill(front)
    return cloth * (1 - collar * _fill(abs(hole - 0.8) - 0.6))


def _t_shirt(u, v, r):
    hem, arm, collar = r(7, 11), r(1.5, 6), r(-0.2, 0.4)
    return _top(u, v, r, hem=hem, arm=arm, spread=r(2.5, 5), collar=collar)


def _trouser(u, v, r):
    x, crotch, hem = abs(u), r(-7, -3), r(9, 13)
    leg = _slab(x, v, -12, hem, r(3.2, 4.8), r(3.5, 7))
    gap = x - (v - crotch) * r(0.06, 0.2)  # a wedge between the legs
    belt = 1 - r(0, 0.5) * _fill(abs(v + 10) - 0.5)
    return _fill(np.maximum(leg, -gap)) * belt


def _pullover(u, v, r):
    hem = r(7, 10.5)
    ribs = 1 - r(0, 0.4) * _fill(abs(v - hem + 1.5) - 0.5)
    collar = r(-0.2, 0.5)
    return ribs * _top(u, v, r, hem=hem, arm=r(10, 17), spread=r(1.5, 5), collar=collar)


def _dress(u, v, r):
    x, waist, hem = abs(u), r(-4, 1), r(9, 13)
    bust = _slab(x, v, -10, waist + 1, r(2.5, 5), r(2, 4))
    skirt = _slab(x, v, waist, hem, r(2.2, 4), r(3.5, 8))
    cuff = 3 + r(0, 4), -8 + r(0, 12) * (r(0, 2) < 1)  # every other one is sleeveless
    sleeve = _bar(x, v, 3, -8.5, *cuff, r(0.5, 1.8))
    hole = np.sqrt(x * x + (v + 10.5) ** 2) - r(1, 3.2)
    cloth = np.maximum(np.minimum(np.minimum(bust, skirt), sleeve), -hole)
    return _fill(cloth) * (1 - r(0, 0.5) * _fill(abs(v - waist) - 0.6))


def _coat(u, v, r):
    front = {"opening": r(0.3, 1), "lapel": r(0, 0.5), "collar": r(0, 0.5)}
    cut = {"hem": r(9.5, 13), "arm": r(11, 18), "spread": r(1, 4), "flare": r(0, 2)}
    return _top(u, v, r, **cut, **front)


def _sandal(u, v, r):
    rise, width, ankle, bend = r(0, 6), r(0.4, 1), r(-6, 0), r(0, 4)
    floor = 6 - rise * np.clip((u + 3) / 12, 0, 1)  # the sole climbs towards the heel
    sole = np.maximum(abs(u) - 10.5, abs(v - floor) - r(0.6, 1.5))
    stem = _slab(u - 9, v, 6 - rise, 7, r(1, 2), r(0.5, 2))
    toes = abs(np.sqrt((u + 5.5) ** 2 + (v - 5.5) ** 2) - r(2.5, 4.5)) - width
    back = _bar(u, v, 8.5, 6 - rise, 8.5, ankle, width + 0.3)
    loop = _bar(u, v, 8.5, ankle, bend, ankle + 1, width)
    instep = _bar(u, v, bend, ankle + 1, r(-6, 2), 4, width)
    shape = np.maximum(np.minimum(np.minimum(toes, back), loop), v - 6)
    return _fill(np.minimum(np.minimum(shape, instep), np.minimum(sole, stem)))


def _shirt(u, v, r):
    arm = np.where(r(0, 1) < 0.4, r(2, 7), r(9, 17))
    front = {"opening": r(0.2, 0.9), "collar": r(0.1, 0.8)}
    return _top(u, v, r, hem=r(7, 12), arm=arm, spread=r(1.5, 5), **front)


def _sneaker(u, v, r):
    sole = _bar(u, v, -9.5, 6, 9.5, 6, r(0.8, 1.8))
    toe = _bar(u, v, -8, 4, 2, 2.5, r(1.5, 2.8))
    heel = _slab(u - 6, v, r(-4, 0), 6, r(2, 4), r(3.5, 5))
    tongue = _bar(u, v, -5, 3, 3, r(-3, 0), r(1, 2))
    upper = _fill(np.minimum(np.minimum(toe, heel), tongue))
    return np.maximum(upper * r(0.5, 1), _fill(sole))


def _bag(u, v, r):
    top = r(-5, 1)
    body = _slab(u, v, top, r(7, 11), r(6, 11), r(6, 11))
    loop = np.sqrt((u / r(0.6, 1.2)) ** 2 + (v - top) ** 2) - r(4, 8)
    handle = np.maximum(abs(loop) - r(0.5, 1.2), v - top)
    flap = 1 - r(0, 0.6) * _fill(abs(v - top - r(1, 6)) - 0.5)
    return np.maximum(_fill(body) * flap, _fill(handle) * (r(0, 4) < 3))


def _ankle_boot(u, v, r):
    rise = r(0, 3)
    sole = _bar(u, v, -9.5, 9, 8, 9 - rise, r(0.6, 1.5))
    toe = _bar(u, v, -7.5, 7, 4, 4.5, r(2, 3))
    shaft = _slab(u - 4.5, v, r(-11, -3), 8, r(3, 5), r(4, 5))
    heel = _slab(u - 7, v, 7, 10, r(1.5, 2.5), r(1, 2.5))
    upper = _fill(np.minimum(np.minimum(toe, shaft), heel))
    return np.maximum(upper, _fill(sole) * r(0.5, 1))


# fmt: off
GARMENTS: tuple[Callable[..., Any], ...] = (
    _t_shirt, _trouser, _pullover, _dress, _coat,
    _sandal, _shirt, _sneaker, _bag, _ankle_boot)
# fmt: on
