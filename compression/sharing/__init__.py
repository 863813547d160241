"""Sharing: layers of a group use the same weights."""
