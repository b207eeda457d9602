"""What is loaded inside the serving processes; imports nothing of ours. Empty until its plugin comes."""
