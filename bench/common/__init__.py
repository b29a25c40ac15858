"""Code that all benchmarks share: arrivals of requests, statistics, tables, machine, files, output."""
