"""From an envelope to an answer."""
