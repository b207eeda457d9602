"""Frozen values that flow through flagprov; no I/O here."""
