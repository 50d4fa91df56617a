"""Who multiplies: a graph compiled for a processor, or tiles on PyTorch."""
