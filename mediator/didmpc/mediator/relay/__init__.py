"""`relay/1.0`: sealed packets between the legs of a channel."""
