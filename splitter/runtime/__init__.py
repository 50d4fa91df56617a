"""Who multiplies: the same graph on PyTorch, or compiled for a processor."""
