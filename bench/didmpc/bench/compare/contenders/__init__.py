"""One module for each contender: `CONTENDERS`, what it offers, and `ORDER`, its place in tables."""
