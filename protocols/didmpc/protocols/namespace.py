"""The namespace of the protocols that didmpc adds to DIDComm."""

NAMESPACE = "https://w3id.org/didmpc"
