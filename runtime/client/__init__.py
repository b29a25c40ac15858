"""Models, requests and streams for Python callers, over the C ABI."""
