"""CUDA on a GPU."""
