"""A course of three notebooks with all that a page of the book can hold."""

import base64
import contextlib
import importlib.util
import io
import pathlib
import struct
import zlib

import nbformat
from nbformat.v4 import new_output

ROOT = pathlib.Path(__file__).parent.parent
HEADER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
{tracks}---

"""
SETUP = """\
```{code-cell}
{tags}import importlib.util

if importlib.util.find_spec("bn_from_scratch") is None:  # a hosted notebook
    pass
```
"""
FORMULAS = r"""
# Formulas and pictures

A mean $\boldsymbol{\mu}$ of **zebras**, then [JAX](02_tracks_jax.ipynb), its
[layer](02_tracks_torch.ipynb#The-layer), the [numbers](#the-numbers) and
[where a picture is](https://example.org/picture); a line may begin with
% and is text all the same.

SETUP
## The numbers

Standardized, with no empty line before the formula and none after it,
$$\hat{x}_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}} \tag{1}$$
the text goes on.

$$
\begin{aligned}
\mu &= \frac{1}{n} \sum_i x_i \\
\sigma^2 &= \frac{1}{n} \sum_i (x_i - \mu)^2
\end{aligned}
\tag{2}
$$

$$
a_1 + a_2 + a_3 + a_4 + a_5 + a_6 + a_7 + a_8 + a_9 + a_{10} + a_{11} + a_{12} + a_{13}
+ a_{14} + a_{15} + a_{16} + a_{17} + a_{18} + a_{19} + a_{20} = b \tag{A}
$$

![a grey square](figures/grey.png)

| framework | momentum | weight of the old value | what is stored | when it moves |
|---|---|---|---|---|
| `a_name_that_is_long` | 0.1 | 0.9 | `another_name_that_is_long` | $\gamma$ |

<details><summary>Hint</summary>

Think of $\epsilon$.

</details>

```{code-cell}
print("wide " * 40)
show("text/html", "<table><tr>" + "<td>wide cell</td>" * 30 + "</tr></table>")
show("text/markdown", "```python\ndef of_the_package(): ...\n```")
show("image/png", PNG)
warn("not to be " + "read")
```

```{code-cell}
show("text/html", "<p id='live'>-</p>"
     "<script>document.getElementById('live').textContent = 6 * 7</script>")
```
"""
TRACKS = r"""
# One text, four tracks

Written once.

SETUP
## The layer

```{code-cell}
print("the same everywhere")
```

+++ {"tags": ["torch"]}

PyTorch has **modules**.

```{code-cell}
:tags: [torch]

print("made by torch")
```

```{code-cell}
:tags: [torch]

print("and more by torch")
```

+++ {"tags": ["jax"]}

JAX has $f$.

```{code-cell}
:tags: [jax]

print("made by jax")
```

```{code-cell}
:tags: [tensorflow]

print("made by tensorflow")
```

```{code-cell}
:tags: [mxnet]

print("made by mxnet")
```

## Training

```{code-cell}
print("loss of", TRACK)
```

```{code-cell}
:tags: [jax]

print("jax only")
```

```{code-cell}
:tags: [mxnet]

print("mxnet only")
```
"""
EXERCISE = """
# Exercise 1: bias

See [the formulas](../01_formulas.ipynb#the-numbers) and
[MXNet](../02_tracks_mxnet.ipynb), later [the solution](../../solutions/1_bias.ipynb).

```{code-cell}
answer = ...
```
"""
FRAMEWORKS = ("torch", "tensorflow", "jax", "mxnet")


def load(path):
    """A module of the repository that is no part of the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(width=64, height=32):
    """A grey picture."""

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * width) * height
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def source(text, tracks=()):
    header = f"tracks: [{', '.join(tracks)}]\n" if tracks else ""
    setups = [SETUP.replace("{tags}", f":tags: [{t}]\n\n") for t in tracks]
    setup = "\n".join(setups) or SETUP.replace("{tags}", "")
    return HEADER.replace("{tracks}", header) + text.lstrip().replace("SETUP", setup)


def write(folder, formulas=FORMULAS, tracks=TRACKS):
    """Write the sources and the executed notebooks; returns the folder."""
    (folder / "figures").mkdir(parents=True)
    (folder / "exercises").mkdir()
    (folder.parent / "solutions").mkdir(exist_ok=True)
    (folder.parent / "solutions/1_bias.ipynb").write_text("no part of the book")
    (folder / "figures/grey.png").write_bytes(png())
    (folder / "01_formulas.md").write_text(source(formulas))
    (folder / "02_tracks.md").write_text(source(tracks, FRAMEWORKS))
    (folder / "exercises/1_bias.md").write_text(source(EXERCISE))
    tool = load(ROOT / "tools/notebooks.py")
    for path in [*folder.glob("*.md"), *folder.glob("exercises/*.md")]:
        for target, notebook in tool.targets(path).items():
            run(notebook, target.stem.rpartition("_")[2])
            nbformat.write(notebook, target)
    return folder


def run(notebook, track):
    """Execute the cells here, without a kernel."""
    names = {"TRACK": track, "PNG": base64.b64encode(png()).decode()}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        made = cell.outputs

        def show(kind, text, made=made):
            made.append(new_output("display_data", data={kind: text}))

        def warn(text, made=made):
            made.append(new_output("stream", name="stderr", text=text))

        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(cell.source, names | {"show": show, "warn": warn})
        if printed.getvalue():
            made.insert(0, new_output("stream", name="stdout", text=printed.getvalue()))
        cell.execution_count = count
