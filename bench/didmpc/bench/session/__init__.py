"""`didmpc bench session`: what a session costs, as ratios of what is measured beside it in the same run.

messages   cryptography and bytes of one message: DIDComm, both forms of a session, bare AES-GCM
relayed    round trips and throughput: through a mediator, a raw TCP relay, TLS, a direct connection
computing  MPyC's work over didmpc, over the raw relay, and over its own TCP
splice     the raw TCP relay, and the delay box
ends       the processes at both ends of what is relayed
programs   the MPyC program that is timed
report     the tables
"""
