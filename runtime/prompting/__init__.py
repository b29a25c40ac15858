"""From messages to tokens: chat templates in a sandbox, NFC, guards against injected control tokens."""
