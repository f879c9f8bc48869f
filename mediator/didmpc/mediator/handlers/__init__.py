"""What each DIDComm protocol that the mediator speaks does with a message."""
