"""The people this agent knows, and how they come to know each other."""
