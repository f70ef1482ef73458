"""The smallest fix of every bug in exercises/find_the_bug: (old text, new text)."""

import pathlib

BROKEN = pathlib.Path(__file__).resolve().parent.parent / "exercises" / "find_the_bug"

_REFUSED = 'raise ValueError(f"a layer for other inputs than {X.shape}")\n'
_OWN = "layers.BatchNormalization(momentum=0.9, epsilon=1e-5)"

FIXES = {
    "b01_rows_of_an_image": [("(0, 2, 3)", "(0, 1, 2)")],
    "b02_a_network_that_stays_new": [
        ("    model.training = True\n", ""),
        ("loss_of(y, model(X))", "loss_of(y, model(X, training=True))"),
        ("    model.training = False\n", ""),
        ("argmax(model(X), axis=1)", "argmax(model(X, training=False), axis=1)"),
    ],
    "b03_after_loading": [
        (
            "self.moving_mean = torch.zeros(num_features)",
            'self.register_buffer("moving_mean", torch.zeros(num_features))',
        ),
        (
            "self.moving_var = torch.ones(num_features)",
            'self.register_buffer("moving_var", torch.ones(num_features))',
        ),
    ],
    "b04_the_parameter_file": [
        (
            "np.zeros(C)",
            'self.params.get("moving_mean", shape=C, init="zeros", grad_req="null")',
        ),
        (
            "np.ones(C)",
            'self.params.get("moving_var", shape=C, init="ones", grad_req="null")',
        ),
        (
            "= self.moving_mean, self.moving_var",
            "= self.moving_mean.data(), self.moving_var.data()",
        ),
        (
            "self.moving_mean = (1 - m) * moving_mean + m * mean.detach()",
            "self.moving_mean.set_data((1 - m) * moving_mean + m * mean.detach())",
        ),
        (
            "self.moving_var = (1 - m) * moving_var + m * var.detach()",
            "self.moving_var.set_data((1 - m) * moving_var + m * var.detach())",
        ),
    ],
    "b05_looking_changes_it": [("torch.is_grad_enabled()", "self.training")],
    "b06_nothing_re_estimated": [(" and torch.is_grad_enabled()", "")],
    "b07_as_good_as_the_last_batch": [
        ("momentum * moving + (1 - momentum)", "(1 - momentum) * moving + momentum")
    ],
    "b08_virtually_the_same_model": [("layers.BatchNormalization()", _OWN)],
    "b09_a_dead_channel_wakes": [("eps=1e-12", "eps=1e-5")],
    "b10_it_used_to_run": [
        (
            "self.add_update(\n"
            "            [\n"
            "                (self.moving_mean, moved[0]),\n"
            "                (self.moving_var, moved[1]),\n"
            "            ]\n"
            "        )\n",
            "self.moving_mean.assign(moved[0])\n"
            "        self.moving_var.assign(moved[1])\n",
        )
    ],
    "b11_the_frozen_half": [
        (_REFUSED, f"{_REFUSED}        training = training and self.trainable\n")
    ],
    "b12_before_the_first_step": [
        (
            "self.move(moving_mean, mean)\n            self.move(moving_var, var)",
            "if not self.is_initializing():\n"
            "                self.move(moving_mean, mean)\n"
            "                self.move(moving_var, var)",
        )
    ],
    "b13_nobody_complained": [
        (
            "def forward(self, X):\n",
            "def forward(self, X):\n"
            "        if X.ndim != self.num_dims:\n"
            '            raise ValueError(f"{X.ndim} axes, not {self.num_dims}")\n',
        )
    ],
    "b14a_one_example_at_a_time": [
        (
            _REFUSED,
            f"{_REFUSED}        if autograd.is_training() and X.size == X.shape[1]:\n"
            '            raise ValueError("one value per channel")\n',
        )
    ],
    "b14b_never_a_number_again": [
        ("        if training:\n", "        if training and X.size > 0:\n")
    ],
    "b15_from_another_framework": [("axis=1, ", "")],
    "b16_nothing_but_beta": [
        ("if axis != 1]\n", "if axis != 1]\n    X = X.float()\n"),
    ],
    "b17_too_many_parameters": [
        ("kernel_size=(5, 5))", 'kernel_size=(5, 5), padding="VALID")'),
    ],
}


def fixed(name):
    """The text of a file with its bug fixed."""
    text = (BROKEN / f"{name}.py").read_text()
    for old, new in FIXES[name]:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} is not once in {name}")
        text = text.replace(old, new)
    return text
