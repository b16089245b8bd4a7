"""What every folder shares; it imports nothing of ours."""
