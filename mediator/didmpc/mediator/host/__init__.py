"""The machine that the mediator runs on: its settings, its home, its logs, and systemd."""
