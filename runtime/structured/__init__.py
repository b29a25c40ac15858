"""Output constraints: JSON schema, regex, grammar, tool calls."""
