"""Proofs that a deployment serves, and the state of every replica."""
