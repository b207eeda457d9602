"""What is loaded inside the serving processes; it imports nothing of ours. Empty until the FlagGems plugin comes."""
