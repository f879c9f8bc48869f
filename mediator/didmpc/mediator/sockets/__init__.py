"""Connections of clients: HTTP, WebSockets and their frames, and the bounds on them."""
