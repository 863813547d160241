"""From cells to a table: aggregation over seeds, paired comparison, plots."""
