"""The blocks of a Gluon model, and their parameters."""

from mxnet.gluon import Block, Parameter


def layers_of(model: Block) -> dict[str, Block]:
    """{path: block} of every block, each once; one that contains others before them."""
    found: dict[str, Block] = {}

    def visit(path: str, block: Block) -> None:
        if block not in found.values():
            found[path] = block
            for name, child in block._children.items():
                visit(f"{path}.{name}" if path else name, child)

    visit("", model)
    return found


def parameters_of(model: Block) -> list[Parameter]:
    """Every parameter of every block."""
    return [p for block in layers_of(model).values() for p in block.params.values()]
