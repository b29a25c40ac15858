"""`binhdan bench report`: a result as one page that needs no network, no other file and no script."""
