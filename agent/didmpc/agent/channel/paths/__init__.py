"""The paths a link can run over; the link stands above them (session.md, section 4)."""
