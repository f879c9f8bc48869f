"""`session/1.0`: sessions between two DIDs atop DIDComm. Handshake, key schedule, packets, records, links."""
