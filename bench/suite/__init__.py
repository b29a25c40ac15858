"""`binhdan bench run` and the commands on its results: Vietnamese workloads with one user and many."""
