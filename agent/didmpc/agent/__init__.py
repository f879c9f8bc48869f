"""The agent: identity, contacts and MPC sessions of one party, and the `didmpc` command."""
