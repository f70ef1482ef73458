"""The four backends stay in step: same files, names, arguments and equation tags.

Reads syntax trees only, so it needs no framework.
"""

import ast
import pathlib
import re

import pytest

from bn_from_scratch import backends

ROOT = pathlib.Path(backends.__file__).parent
VARIANTS = sorted(
    f"variants/{path.name}" for path in (ROOT / "torch" / "variants").glob("*.py")
)
FILES = (
    "batch_norm.py",
    "statistics.py",
    "layer.py",
    "builtin.py",
    "lenet.py",
    "probe.py",
    "timing.py",
    "trainer.py",
    *(file for file in VARIANTS if not file.endswith("fused.py")),
)
TRANSLATIONS = [name for name in backends.NAMES if name != "torch"]

# What one backend has and the others cannot have, with the reason.
OWN = {
    ("jax", "builtin.py", "call"): "Flax's layer takes use_running_average",
    ("mxnet", "trainer.py", "SGD"): "MXNet's own reads its lr as float32",
}
# A Flax module changes a default by a field, another class by its constructor.
BY_FIELD = {"FrozenBatchNorm"}
# What a variant hands on to the layer by place and by name; a Flax module inherits it.
HANDED_ON = ["num_features", "num_dims", "eps", "momentum", "dtype"]
OPTIONS = {"FrozenOptions", "LayerOptions"}
# Methods of a class that every backend must have; the rest is the framework's idiom.
METHODS = {
    "BatchNorm": (
        "build",
        "put",
        "train_forward",
        "eval_forward",
        "or_moving",
        "predicts_by_batch",
        "batch_stats",
        "normalize",
        "operands",
        "move",
    ),
    "GhostBatchNorm": ("train_forward", "operands", "of_the_batch"),
    "BatchRenorm": ("operands", "likeness", "limits", "move"),
    "AdjustedBatchNorm": ("operands",),
    "SyncBatchNorm": ("batch_stats", "all_reduce"),
    "AccumBatchNorm": ("move",),
    "TransformedBatchNorm": ("operands",),
    "MeanOnlyBatchNorm": ("normalize",),
    "VarOnlyBatchNorm": ("normalize",),
    "FusedBatchNorm": ("train_forward",),
    "Trainer": (
        "prepare",
        "train_parts",
        "logits",
        "activations",
        "get_weights",
        "write_weights",
    ),
}
# The same thing under the word that is true of it: a Flax module has no weights.
SYNONYMS = {"variables": "model"}
# Arguments of one framework alone, with the reason.
FOREIGN = {
    "torch": {"group": "the replicas are a process group"},
    "tensorflow": {
        "gamma_regularizer": "Keras's; parameter groups, optax and wd_mult elsewhere",
        "beta_regularizer": "the same",
        "gamma_constraint": "Keras's",
        "beta_constraint": "Keras's",
        "activity_regularizer": "what every layer of Keras takes",
        "trainable": "the same",
        "name": "the same",
    },
    "jax": {
        "axis_name": "the replicas lie on a mapped axis",
        "axis_index_groups": "and are grouped by it",
        "key": "JAX draws random numbers by a key",
    },
    "mxnet": {},
}


def outline(backend, file):
    """Public functions and classes in order, each with the names of its arguments."""
    found = []
    for node in ast.parse((ROOT / backend / file).read_text()).body:
        name = getattr(node, "name", "_")
        if name.startswith("_") or (backend, file, name) in OWN or name in OPTIONS:
            continue
        if isinstance(node, ast.FunctionDef):
            found.append((name, arguments(node, backend)))
        if isinstance(node, ast.ClassDef):
            methods = {m.name: m for m in node.body if isinstance(m, ast.FunctionDef)}
            own = [] if name in BY_FIELD else settings(node, methods, backend)
            found.append((name, own))
            for method in METHODS.get(name, ()):
                found.append((f"{name}.{method}", arguments(methods[method], backend)))
    return found


def settings(cls, methods, backend):
    """Own arguments of the constructor; a Flax module declares them as fields."""
    if "__init__" in methods:
        names = arguments(methods["__init__"], backend)
        variant = [base.id for base in cls.bases if isinstance(base, ast.Name)]
        handed_on = variant == ["BatchNorm"] and names[:5] == HANDED_ON
        return tidy(names[5:], backend) if handed_on else names
    if cls.name == "Trainer":  # it inherits its constructor
        return []
    fields = [f.target.id for f in cls.body if isinstance(f, ast.AnnAssign)]
    return tidy(["*" if name == "_" else name for name in fields], backend)


def arguments(function, backend):
    """Names of the arguments in order, with a * where the keyword-only ones begin."""
    args = function.args
    names = [a.arg for a in args.args if a.arg != "self"]
    names += ["*", *(a.arg for a in args.kwonlyargs)] if args.kwonlyargs else []
    return tidy(names, backend)


def tidy(names, backend):
    names = [SYNONYMS.get(n, n) for n in names if n not in FOREIGN[backend]]
    while names[:1] == ["*"]:
        names = names[1:]
    return names[:-1] if names[-1:] == ["*"] else names


def equation_tags(backend, file):
    return re.findall(r"\((\d+)\)", comments((ROOT / backend / file).read_text()))


def comments(text):
    return "\n".join(re.findall(r"# (.*)", text))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("backend", TRANSLATIONS)
def test_every_file_is_a_translation_of_the_torch_file(backend, file):
    assert outline(backend, file) == outline("torch", file)
    assert equation_tags(backend, file) == equation_tags("torch", file)


@pytest.mark.parametrize("backend", backends.NAMES)
def test_the_fused_layer_is_the_same_from_outside(backend):
    """What is fast differs; the function, the class and the backward do not."""
    file = "variants/fused.py"
    public = {"fused_batch_norm", "FusedBatchNorm", "FusedBatchNorm.train_forward"}
    own = [entry for entry in outline(backend, file) if entry[0] in public]
    assert own == [entry for entry in outline("torch", file) if entry[0] in public]
    assert len(own) == 3
    assert set("7 8 9 10".split()) <= set(equation_tags(backend, file))


def test_the_outline_sees_the_core():
    """A guard for the guard: an outline of nothing would equal every other."""
    assert [name for name, _ in outline("torch", "batch_norm.py")] == [
        "promote",
        "channel_mean",
        "batch_stats",
        "normalize",
        "update_moving",
        "batch_norm",
    ]
    renorm = dict(outline("jax", "variants/renorm.py"))
    assert renorm["BatchRenorm"][:2] == ["r_max", "d_max"]
    assert renorm["BatchRenorm.operands"] == ["mean", "var", "training"]


@pytest.mark.parametrize("backend", backends.NAMES)
def test_the_core_quotes_each_forward_equation_once(backend):
    assert equation_tags(backend, "batch_norm.py") == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("backend", backends.NAMES)
def test_every_equation_quoted_stands_in_the_spec(backend):
    spec = ROOT.parent / "spec.py"
    known = set(re.findall(r"\((\d+)\)", comments(spec.read_text())))
    quoted = {tag for file in FILES for tag in equation_tags(backend, file)}
    assert quoted <= known
    assert {"11", "16", "17", "18", "19", "20"} <= quoted


@pytest.mark.parametrize("backend", backends.NAMES)
def test_the_core_is_one_screen_and_knows_no_variant(backend):
    lines = (ROOT / backend / "batch_norm.py").read_text().splitlines()
    assert len(lines) <= 95
    functions = dict(outline(backend, "batch_norm.py"))
    state = ["X", "gamma", "beta", "moving_mean", "moving_var"]
    settings = ["training", "eps", "momentum", "axis"]
    assert functions["batch_norm"] == [*state, "*", *settings]


@pytest.mark.parametrize("backend", TRANSLATIONS)
def test_the_public_names_are_the_same(backend):
    assert public_names(backend) == public_names("torch")


def public_names(backend):
    tree = ast.parse((ROOT / backend / "interface.py").read_text())
    assigned = [n for n in tree.body if isinstance(n, ast.Assign)]
    return ast.literal_eval(assigned[-1].value)
