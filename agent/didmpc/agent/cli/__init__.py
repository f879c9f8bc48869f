"""The `didmpc` command: one small file per group of commands."""
