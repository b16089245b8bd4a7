"""Helpers of all folders; it imports nothing of ours but `_seams`."""
