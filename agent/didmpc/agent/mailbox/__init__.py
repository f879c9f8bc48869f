"""The agent's mailbox at its mediator: the connection, what arrives and what goes out."""
