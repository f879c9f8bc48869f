"""Links between contacts, for programs that use sessions (docs/session-api.md).

Here in the daemon: handshakes, with keys that never leave it, and what the mailbox carries. The session keys
go to the program through the control socket, and the program runs the link itself.

service.py       the methods of the control socket, and the messages of contacts
program_link.py  a link that a program runs: what the daemon does for it as long as it lasts
discovery.py     whether a contact would answer an `open`
unknown.py       sessions that ended here, for peers who do not know that yet
"""

from didmpc.agent.links.service import ContactLinks

__all__ = ["ContactLinks"]
