"""The endpoints: route and schema of each in one file."""
