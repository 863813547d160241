"""Measurements beside a reference, as ratios of one interleaved run. A timing is never a test."""
