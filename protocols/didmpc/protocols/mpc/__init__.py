"""How parties agree on one MPC session: proposal, manifest, signatures, words to compare."""
