"""The Python client of the C library (csrc/include/binhdan.h): models, chat, the hub and the command line."""
