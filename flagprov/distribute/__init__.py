"""Weights and images: fetched once, checked, and fanned out host to host."""
