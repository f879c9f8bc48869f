"""`didmpc mediator migrate`: everything that one store keeps, into another.

tables     what is copied: tables, keys, columns, in the order in which they refer to each other
side       what a store must do to be read from or written to
sqlite     a file as a side
postgres   a database as a side
merge      what one side has and the other has not, in one go through both
copying    a pass: the target is made equal to the source, and one that was broken off goes on
verifying  counts and hashes of every table and mailbox, on both sides
moving     passes while the mediator runs, the last one while it writes nothing, then the end of the old store
run        what the command does
command    what is typed
"""
