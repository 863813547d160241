"""Task metrics and efficiency of a checkpoint."""
