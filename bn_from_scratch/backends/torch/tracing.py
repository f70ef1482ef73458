"""What those who make a graph of a model are told about a layer of ours."""

from typing import Any, NoReturn

from torch import nn
from torch.fx.proxy import Proxy, TraceError


class Leaf(nn.Module):
    """A layer that torch.fx keeps whole, as it does PyTorch's own.

    `torch.fx.symbolic_trace` knows no sizes, and the layer looks at those of X.
    """

    def node_of(self, X: Proxy, **options: Any) -> Proxy:
        """The layer as one node of the graph that X belongs to."""
        tracer: Any = X.tracer
        path = tracer.path_of_module(self)
        if not path:
            raise TraceError(
                "torch.fx traces a model, in which a layer is a node; "
                f"{type(self).__name__} was given alone"
            )
        return tracer.create_proxy("call_module", path, (X,), options)

    def __prepare_scriptable__(self) -> NoReturn:
        """What torch.jit.script asks before it compiles."""
        raise TypeError(
            "torch.jit.script compiles no layer of ours; torch.export takes it; "
            f"got {type(self).__name__}"
        )
