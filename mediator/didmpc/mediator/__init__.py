"""The mediator: relays DIDComm messages and session packets for agents that have no open port."""
