"""What is loaded inside vLLM's processes: the switch of FlagGems. It imports nothing of ours."""
