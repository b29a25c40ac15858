"""`binhdan bench load …`: servers under load, ours and others, over HTTP."""
