"""What is loaded inside serving processes; stdlib only, imports nothing else of flagprov."""
