"""`binhdan bench serve …`: servers under load, ours and others, over HTTP."""
