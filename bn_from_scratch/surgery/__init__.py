"""Change the batch norms of a whole model without changing what it answers.

What is the same in every framework stands here: how a batch norm is described, how one
is folded into the layer before it, and how it is proven that nothing changed.  Each
backend's `surgery.py` finds the layers of its own kinds of model.
"""
