"""The mediator: relays DIDComm messages and session packets for agents that have no open port.

A message's way: `http` or `websocket` takes it in, `service` opens it, checks it (`registration`, `rotation`)
and hands it to the handler of its type: `accounts` (key lists), `mailboxes` (forwards and pickup), `channels`
(the relay), `links`, `courtesies` (all else). A forward goes by `onward` into a mailbox (`intake`, which
tells `deliveries`) or out (`outgoing`, over the sockets of `dialing`). What is kept is in `store`, over
`database`; packets of the relay (`relay`) never are. What is refused, and how it is told: `refusals`.

Several nodes on one PostgreSQL are one mediator: `neighbours` is what each asks of the others, and `cluster`
does it.

Around it: `app` wires everything; `cli` and `operator` are for whoever hosts it, with `configuration`,
`limits` and `home`.
"""
