"""Numba on the cores of this machine."""
