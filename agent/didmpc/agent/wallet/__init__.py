"""The home of an agent, and the wallet with its keys in it."""
