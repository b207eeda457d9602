"""Gateways in front of a release's replicas: what they shall know, who is let in, who is drained."""
