"""The page: its HTTP API, its server, and what protects both."""
