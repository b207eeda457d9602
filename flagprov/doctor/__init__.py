"""Checks of hosts against what a chip and a release need: pure functions of facts, each with a remedy."""
