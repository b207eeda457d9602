"""What runs on a host: stdlib only, Python 3.8, imports nothing else of flagprov."""
