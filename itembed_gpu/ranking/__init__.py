"""Exact search by dot product, and means of rows."""
