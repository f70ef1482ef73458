"""Which tests run together: a worker of pytest-xdist should load few frameworks.

All tests stand in one row, sorted by framework.  The first worker begins at its front
and the second at its end, and they meet where neither has loaded much.
"""

import re

from xdist.scheduler import LoadScopeScheduling

# Side by side stand those that are tested together, or that cost little to load.
ROW = ("jax", "tensorflow", "mxnet", "none", "torch")
OF_TORCH = re.compile(r"exercise|whitening|find_the_bug|book|report")


def framework(nodeid):
    """That of a test: the first of its parameters that is one, or that of its file."""
    path, _, test = nodeid.partition("::")
    _, _, parameters = test.partition("[")
    words = re.findall(r"[a-z]+", parameters) + re.findall(r"[a-z]+", path)
    found = next((word for word in words if word in ROW), None)
    return found or ("torch" if OF_TORCH.search(path) else "none")


def place(nodeid):
    """Where in the row a test stands."""
    return ROW.index(framework(nodeid))


class FromBothEnds(LoadScopeScheduling):
    """Gives out the tests of one file and framework at a time."""

    def __init__(self, config, log=None):
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the row stays sorted by framework

    def _split_scope(self, nodeid):
        return f"{nodeid.partition('::')[0]} {framework(nodeid)}"

    def _assign_work_unit(self, node):
        if self.nodes.index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
