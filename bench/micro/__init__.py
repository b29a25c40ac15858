"""Benchmarks of the engine alone: speed, profile, kernels, hot paths, other engines."""
