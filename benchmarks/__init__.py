"""Measurements, in ratios within one run; each script writes its last results beside itself.

Run from the folder above, as ``python -m benchmarks.cpu``; with ``--help`` each says what it
measures. What scripts have in common is in `benchmarks.common`.
"""

from pathlib import Path

# Where results lie, and what commands are run from.
HERE = Path(__file__).parent
ROOT = HERE.parent
