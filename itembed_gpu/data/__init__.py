"""Itemsets: packed from objects, tables and files."""
