"""Named heads: layers that make a distribution of a known family."""
