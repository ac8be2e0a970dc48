"""Benchmarks: what is measured, against whom, and the results with their hardware."""
