"""How the commands of this user talk to their agent."""
