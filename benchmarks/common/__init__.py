"""What benchmarks have in common: catalogs, the held-out loss, clocks, reports and pictures."""
