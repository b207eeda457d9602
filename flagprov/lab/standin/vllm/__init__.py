"""The lab's stand-in for vLLM: its command line and HTTP API, no model; all it answers is emulated."""

__version__ = "0.32.0+standin"
