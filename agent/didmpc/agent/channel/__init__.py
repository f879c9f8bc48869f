"""The channel process: one per attempt of an MPC session and party.

It holds the link keys of one run and nothing else (session.md, section 1): the daemon hands them over a
socketpair, the program it spawns never sees them. Data's way is short: the program's socketpair
(`bridge`), one `Peer` per party (`peer`), a path to that party (`paths/`), and back.
"""
