"""The HTTP server of `binhdan serve`: OpenAI's API over the engine, with limits, metrics and bills.

Requires the extra `server`. The entry point is `app.create_app(config)`.
"""
