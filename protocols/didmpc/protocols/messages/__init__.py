"""The DIDComm protocols whose messages need no state: what each says, read and written."""
