"""`didmpc bench capacity`: what a number of users needs, computed from what was measured.

values     every quantity of the model: measured figures, what a user does, what machines have
demand     what so many users ask of each part of a cluster
limits     how much of it each part has, the first bottleneck, and the size at which each part ends
queueing   waiting times in closed form
events     the same queues played out with a seed: stations of servers, and of group commit
delivery   a forward's way from node to database to node, played out
report     tables

The model. All rates are those of the busiest time. A user is on line with some probability, on a node that a
load balancer chose blindly; so of two users who have to do with each other, (n - 1) / n pairs are on
different nodes. Work that grows with users is theirs alone; nodes add links to every other node
(n (n - 1) / 2 in all), connections to the database, leases and polling. A part is full when what is asked of
it is more than `utilisation` of what it has; the part that is fullest is the bottleneck.

What the model does not know: users who are alike only on average (bursts beyond `peak`), how PostgreSQL
scales with cores (taken as in proportion), and failures other than those that `spare_nodes` is for.
"""
