"""Factorisation: trained matrices replaced by products of two thin ones."""
