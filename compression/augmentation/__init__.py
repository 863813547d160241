"""Data augmentation: TinyBERT's word replacement, and simpler ways to make more training rows."""
