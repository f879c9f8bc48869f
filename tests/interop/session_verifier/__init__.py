"""A verifier of the vectors in tests/vectors/session-1.0, written from docs/session-extension.md alone.

    python -m session_verifier [folder]          (in tests/interop)

It imports nothing of didmpc and nothing of the generator: three readings of one text must agree.
"""
