"""The runtime in Python: a client of the C ABI (csrc/include/binhdan.h), the server and the command line."""
