"""Models, requests and streams for Python callers, on top of the C ABI."""
