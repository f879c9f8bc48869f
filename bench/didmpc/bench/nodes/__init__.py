"""`didmpc bench cluster`: how much several nodes on one PostgreSQL carry, beside a mediator alone on SQLite.

cpu        of processes
database   a PostgreSQL of its own, or the one that is named
place      a mediator alone, and nodes: processes with homes of their own
load       what load processes do beyond those of `didmpc bench mediator`
measure    the measurements
report     tables, and the figures that `didmpc bench capacity` calculates with
"""
