"""Several nodes that are one mediator: they share a store, and tell each other what only memory knows.

registry    who is there: table `node`, heartbeats by the database's clock, fencing
presence    which node delivers live to an account: table `live`, epochs
crossings   channels whose ends are on two nodes: table `bound`
links       one sealed connection per pair of nodes, by `wire` and `handshake`, of `messages`
cluster     all of it together, as the `Neighbours` of one node
"""
