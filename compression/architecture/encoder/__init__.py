"""The encoder of any shape, as transformers classes.

Its files import torch and transformers alone, and each other by relative names: they can be copied into a saved folder,
which then loads where this project is not installed.
"""
