"""What weights start from."""

__all__ = []
