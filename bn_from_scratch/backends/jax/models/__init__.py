"""Whole Flax models: their batch norms found, replaced, folded, taken anew."""
