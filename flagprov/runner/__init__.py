"""The FlagScale-style runner: what a replica's configuration directory holds, as pure text."""
