"""Quantisation: smaller number formats that are stored small and run on integer kernels."""
