"""flagprov: from a FlagRelease card to one command for a fleet."""

__version__ = "0.1.0"
