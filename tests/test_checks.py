"""What is refused, in which words."""

import pytest

from bn_from_scratch import checks, combinations

NAN = float("nan")
SETTINGS = {
    "num_features": 5,
    "num_dims": 2,
    "eps": 1e-5,
    "momentum": 0.1,
    "axis": 1,
    "correction": 0,
    "statistics": "moving",
    "frozen": None,
}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_features": 0}, ValueError, "num_features must be at least 1; got 0"),
        ({"num_dims": 1}, ValueError, "num_dims must be at least 2; got 1"),
        ({"num_features": 5.0}, TypeError, "num_features must be an integer; got 5.0"),
        ({"num_dims": "2"}, TypeError, "num_dims must be an integer; got '2'"),
        ({"eps": 0.0}, ValueError, "eps must be positive; got 0.0"),
        ({"eps": NAN}, ValueError, "eps must be positive; got nan"),
        ({"momentum": NAN}, ValueError, "momentum must lie between 0 and 1; got nan"),
        ({"momentum": -0.1}, ValueError, "momentum must lie between 0 and 1; got -0.1"),
        ({"momentum": 1.5}, ValueError, "momentum must lie between 0 and 1; got 1.5"),
        ({"axis": "1"}, TypeError, "axis must be an integer or several; got '1'"),
        ({"axis": 1.0}, TypeError, "axis must be an integer or several; got 1.0"),
        ({"axis": ()}, ValueError, "axis must name at least one axis; got ()"),
        ({"axis": 2}, ValueError, "there is no axis 2: X has 2 axes"),
        ({"axis": -3}, ValueError, "there is no axis -3: X has 2 axes"),
        (
            {"axis": (1, -1), "num_features": (5, 5)},
            ValueError,
            "axis (1, -1) names an axis twice: X has 2 axes",
        ),
        (
            {"axis": (0, 1)},
            ValueError,
            "num_features must give a size for each axis of (0, 1); got 5",
        ),
        ({"correction": 2}, ValueError, "correction must be 0 or 1; got 2"),
        (
            {"statistics": "all"},
            ValueError,
            "statistics must be 'moving' or 'batch'; got 'all'",
        ),
        (
            {"frozen": "yes"},
            ValueError,
            "frozen must be None, 'affine' or 'all'; got 'yes'",
        ),
    ],
)
def test_check_layer(settings, error, message):
    checks.check_layer(**SETTINGS)
    with pytest.raises(error) as caught:
        checks.check_layer(**SETTINGS | settings)
    assert str(caught.value) == message


def test_sizes_to_be_inferred_pass():
    checks.check_layer(**SETTINGS | {"num_features": None, "num_dims": None})
    checks.check_input((8, 5, 3), "float32", -1, None, None, training=True)
    checks.check_input((8, 5, 3), "float32", -3, 8, 3, training=True)


@pytest.mark.parametrize(
    ("shape", "axis", "num_features", "num_dims", "message"),
    [
        ((8,), 0, 8, None, "this layer normalizes X with at least 2 axes; {X}"),
        ((8, 5), 1, 5, 3, "this layer normalizes X with 3 axes; {X}"),
        ((8, 5), 2, 5, None, "there is no axis 2: {X}"),
        ((8, 5), (1, -1), (5, 5), None, "axis (1, -1) names an axis twice: {X}"),
        ((8, 5), 1, 6, None, "expected 6 channels on axis 1; {X}"),
        ((8, 5, 4), (1, -1), (4, 5), 3, "expected sizes (4, 5) on axes (1, 2); {X}"),
        ((1, 5), 1, 5, 2, "training needs more than one value per channel; {X}"),
    ],
)
def test_check_input(shape, axis, num_features, num_dims, message):
    sizes = num_features, num_dims
    with pytest.raises(ValueError) as caught:
        checks.check_input(shape, "float32", axis, *sizes, training=True)
    assert str(caught.value) == message.format(X=f"X has shape {shape}")


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8", "complex64"])
def test_a_dtype_that_is_not_real(dtype):
    with pytest.raises(TypeError) as caught:
        checks.check_input((8, 5), dtype, 1, 5, 2, training=True)
    message = f"batch norm takes floating-point X; X has dtype {dtype}"
    assert str(caught.value) == message


def test_one_example_may_have_many_values():
    checks.check_input((1, 5, 3), "float32", 1, 5, 3, training=True)


def test_unknown_sizes_pass():
    checks.check_input((None, 5), "float32", 1, 5, 2, training=True)


@pytest.mark.parametrize("shape", [(9, 4), (9, 1, 4)])
def test_a_mask_has_a_value_per_position(shape):
    assert checks.check_mask(shape, (9, 5, 4), 1) == (9, 1, 4)
    assert checks.check_mask((9,), (9, 5), -1) == (9, 1)
    assert checks.check_mask((9, 2), (9, 5, 2, 4), (1, 3)) == (9, 1, 2, 1)
    assert checks.check_mask((None, 4), (None, 5, 4), 1) == (-1, 1, 4)


@pytest.mark.parametrize("shape", [(9,), (4, 9), (9, 5, 4), (1, 1, 4), (9, 1)])
def test_another_mask_is_refused(shape):
    with pytest.raises(ValueError) as caught:
        checks.check_mask(shape, (9, 5, 4), 1)
    message = f"the mask must have shape (9, 4) or (9, 1, 4); it has shape {shape}"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, "strided", "mean"), ValueError, "ghost_size must be at least 1; got 0"),
        (
            ("4", "strided", "mean"),
            TypeError,
            "ghost_size must be an integer; got '4'",
        ),
        (
            (4, "random", "mean"),
            ValueError,
            "order must be 'contiguous' or 'strided'; got 'random'",
        ),
        (
            (4, "strided", "sum"),
            ValueError,
            "variance must be 'total' or 'mean'; got 'sum'",
        ),
    ],
)
def test_check_ghost(arguments, error, message):
    with pytest.raises(error) as caught:
        checks.check_ghost(*arguments)
    assert str(caught.value) == message


def test_ghost_batches_divide_the_batch():
    checks.check_ghost_input((None, 5), 1, 4, None)
    checks.check_ghost_input((0, 5), 1, 4, None)
    with pytest.raises(ValueError) as caught:
        checks.check_ghost_input((8, 5), (0, 1), 4, None)
    message = "ghost batches divide axis 0; the layer keeps axis (0, 1)"
    assert str(caught.value) == message


def test_a_ghost_batch_is_judged_by_its_values():
    """One example of an image has as many per channel as it has pixels."""
    checks.check_ghost_input((8, 5, 3), 1, 1, None)
    with pytest.raises(ValueError) as caught:
        checks.check_ghost_input((8, 5, 1), 1, 1, None)
    message = "training needs more than one value per channel; "
    assert str(caught.value) == f"{message}a ghost batch has shape (1, 5, 1)"


def test_renorm_limits():
    assert checks.renorm_limits(3, 5, None, None) == (3, 5, None)
    assert checks.renorm_limits(None, None, None, None) == (None, None, None)
    keras = {"rmax": 3, "dmax": 5, "rmin": 0.5}
    assert checks.renorm_limits(None, None, None, keras) == (3, 5, 0.5)
    infinite = float("inf")
    assert checks.renorm_limits(None, None, None, {}) == (infinite, infinite, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5, 1, None, None), "r_max must be at least 1; got 0.5"),
        ((1, -1, None, None), "d_max must be at least 0; got -1"),
        ((NAN, 1, None, None), "r_max must be at least 1; got nan"),
        ((1, NAN, None, None), "d_max must be at least 0; got nan"),
        ((1, 1, 1.5, None), "r_min must lie between 0 and 1; got 1.5"),
        ((1, 1, NAN, None), "r_min must lie between 0 and 1; got nan"),
        (
            (None, None, None, {"rmax": 3, "r_max": 2}),
            "renorm_clipping may have rmin, rmax, dmax; got r_max",
        ),
        (
            (3, None, None, {"rmax": 3}),
            "give renorm_clipping or r_max, d_max, r_min; not both",
        ),
    ],
)
def test_renorm_limits_that_are_refused(arguments, message):
    with pytest.raises(ValueError) as caught:
        checks.renorm_limits(*arguments)
    assert str(caught.value) == message


def test_the_table_of_combinations():
    assert combinations.in_order(["renorm", "sync"]) == ["sync", "renorm"]
    for first, second in combinations.REFUSED:
        order = combinations.ORDER.index
        assert order(first) < order(second)
        assert combinations.refusal(second, first)
    with pytest.raises(ValueError, match=r"^variant must be one of .*; got 'layer'$"):
        combinations.in_order(["layer"])


def test_a_clash_of_three_variants():
    with pytest.raises(ValueError) as caught:
        combinations.in_order(["accumulate", "mean_only", "var_only"])
    message = "mean_only and var_only do not combine: together they are batch norm"
    assert str(caught.value) == message


def test_a_class_under_variants_that_clash():
    bases = [type(name, (), {"variant": name}) for name in ("renorm", "mean_only")]
    under = type("Under", (type("Both", tuple(bases), {}),), {})
    with pytest.raises(ValueError, match=r"^renorm and mean_only do not combine: "):
        combinations.check_class(under)


def test_variants_combine_in_one_order_however_they_are_named():
    ghost = type("Ghost", (), {"variant": "ghost"})
    renorm = type("Renorm", (), {"variant": "renorm"})
    for names in (["ghost", "renorm"], ["renorm", "ghost"]):
        both = combinations.combine((renorm, ghost), names)
        assert (both.__name__, both.__bases__) == ("GhostRenorm", (ghost, renorm))
