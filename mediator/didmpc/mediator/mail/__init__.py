"""Mail: it comes in, waits in mailboxes, is pushed to whoever is connected, and goes on to other servers."""
