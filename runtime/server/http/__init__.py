"""HTTP below the endpoints: connection limits, gateway, JSON bodies, server-sent events, errors."""
