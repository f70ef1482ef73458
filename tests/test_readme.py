"""What the README shows: its code runs, its commands parse, its files exist."""

import pathlib
import re

import pytest
from conftest import load_or_skip, small_garments

from bn_from_scratch import backends, cli, data

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("name", backends.NAMES)
def test_the_code_of_each_backend_runs(name, monkeypatch, tmp_path):
    load_or_skip(name)
    monkeypatch.chdir(tmp_path)  # it may write files
    small = small_garments()
    monkeypatch.setattr(data, "load", lambda: small)
    own = [block for block in BLOCKS if f"import {name} as bn" in block]
    assert own
    for block in own:
        if "from torch import" in block:
            load_or_skip("torch")
        exec(block, {})


def test_the_training_code_is_the_same_in_every_backend(bn, monkeypatch, capsys):
    small = small_garments()
    monkeypatch.setattr(data, "load", lambda: small)
    block = next(block for block in BLOCKS if "Trainer" in block)
    name = bn.__package__.rpartition(".")[2]
    exec(block.replace("torch as bn", f"{name} as bn"), {})
    assert "[" in capsys.readouterr().out


def test_the_commands_parse():
    commands = re.findall(
        r"(?:^    |`)(?:uv run )?"
        r"bn ((?:train|compare|bench|variants|check|grade|data|port|diagnose|health)"
        r"\b[^`#\n]*)",
        TEXT,
        re.M,
    )
    assert len(commands) >= 11
    for command in commands:
        assert cli.parser().parse_args(command.split()).run


def test_the_table_of_combinations_is_what_the_command_prints(capsys):
    assert cli.main(["variants"]) == 0
    assert f"```\n{capsys.readouterr().out}```" in TEXT


def test_the_files_exist():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
