"""What every folder shares: registration, argument checks, optional imports. Imports nothing of ours."""
