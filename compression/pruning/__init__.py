"""Pruning: heads, neurons, layers, single weights and word pieces that contribute least are removed."""
