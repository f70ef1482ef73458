"""Batch norm that nothing changes: for fine-tuning, and for detection backbones."""

from bn_from_scratch.backends.tensorflow.layer import BatchNorm


class FrozenBatchNorm(BatchNorm):
    """The moving statistics always, in training too; gamma and beta are fixed."""

    variant = "freeze"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs, frozen="all")

    def arguments(self):
        arguments = super().arguments()
        del arguments["frozen"]
        return arguments
