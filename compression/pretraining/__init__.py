"""Masked-language modelling, with or without a sentence-pair objective."""
