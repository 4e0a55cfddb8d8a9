"""Devices that train."""
