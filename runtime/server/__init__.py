"""The HTTP server behind `binhdan serve`: OpenAI's API over the engine, with limits, metrics and a bill.

Needs the extra `server`. `app.create_app(config)` is the way in.
"""
