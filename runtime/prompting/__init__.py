"""From messages to tokens: chat templates in a sandbox, NFC, guard against injected control tokens."""
