"""HTTP below the API: connection limits, gateway middleware, JSON checks, SSE, errors, OpenAPI."""
