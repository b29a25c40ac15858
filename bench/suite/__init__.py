"""`binhdan bench run`: Vietnamese workloads, asked by one and by many, on one engine."""
