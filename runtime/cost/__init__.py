"""Cost model: boards and tariffs as data, and what an answer costs."""
