"""The pool of loaded models, and the dispatcher of their events."""
