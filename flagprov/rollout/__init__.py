"""Changing a release over a whole fleet: order, batches, gates, and the way back."""
