"""Keys, the JOSE algorithms that DIDComm allows, and how bytes are written."""
