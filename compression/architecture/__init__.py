"""Encoder shapes: presets, students built from a teacher, checkpoint folders."""
