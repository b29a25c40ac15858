"""How many boards serve a country, and what that costs."""
