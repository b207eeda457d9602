"""Emulated accelerators: installers and tools that take the part of the vendors' own on hosts of the lab."""
