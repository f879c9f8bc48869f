"""The pure core of didmpc: DIDs, envelopes, messages, protocol state machines and session cryptography.

Nothing here does I/O, starts a task or reads a clock. Shells in `didmpc.agent` and `didmpc.mediator` do.
"""
