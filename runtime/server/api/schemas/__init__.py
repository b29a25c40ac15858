"""What OpenAI's API takes, as pydantic models. Fields that there are not are refused by name."""
