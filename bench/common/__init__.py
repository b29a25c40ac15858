"""Shared by all benchmarks: statistics, machine, files, output."""
