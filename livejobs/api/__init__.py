"""The JSON API: how a request is read, and the one shape of errors."""
