"""This machine, as the agent and the mediator both use it: files and sockets for their owner only."""
