"""The blocks of a Gluon model, and their parameters."""


def layers_of(model):
    """{path: block} of every block, each once; one that contains others before them."""
    found = {}

    def visit(path, block):
        if block not in found.values():
            found[path] = block
            for name, child in block._children.items():
                visit(f"{path}.{name}" if path else name, child)

    visit("", model)
    return found


def parameters_of(model):
    return [p for block in layers_of(model).values() for p in block.params.values()]
