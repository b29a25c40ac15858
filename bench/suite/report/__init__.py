"""`binhdan bench report`: a result as one HTML page without scripts, other files or network requests."""
