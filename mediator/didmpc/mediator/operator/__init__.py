"""What whoever hosts a mediator does with it while it runs: the control socket, its methods, and backups."""
