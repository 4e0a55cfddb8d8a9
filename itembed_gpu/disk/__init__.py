"""Folders and files of this package: written as a whole, read with their checksums compared."""
