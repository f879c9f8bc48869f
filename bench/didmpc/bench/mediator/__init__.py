"""`didmpc bench mediator`: how much one mediator carries, beside the limits of the same machine.

machine    what it ran on
host       the processes: the mediator under test, and the load generators
account    a client of the mediator
wire       bare connections, which cost the load generator little
load       what the load generators do; each is a process
ceilings   the limits: a raw TCP relay, the store's own commits, unpacking on one core
sections   the measurements
report     the table
"""
