"""The blocks of a Gluon model, and their parameters."""

from collections.abc import Iterator

from mxnet.gluon import Block, Parameter

from bn_from_scratch.surgery import paths


def layers_of(model: Block) -> dict[str, Block]:
    """{path: block} of every block, each once; one that contains others before them."""
    seen: list[Block] = []

    def visit(path: str, block: Block) -> Iterator[tuple[str, Block]]:
        if block not in seen:
            seen.append(block)
            yield path, block
            for name, child in block._children.items():
                yield from visit(f"{path}.{name}" if path else name, child)

    return paths.unique(visit("", model))


def parameters_of(model: Block) -> list[Parameter]:
    """Every parameter of every block."""
    return [p for block in layers_of(model).values() for p in block.params.values()]
