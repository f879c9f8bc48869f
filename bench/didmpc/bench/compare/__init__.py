"""didmpc beside every other way to connect MPC parties: test hosts, contenders, work, figures.

isolate, delay, lab     hosts in network namespaces, the distance between them, their firewalls
hosts                   what a contender sees of them; all that it does there is kept as evidence
contender, contenders/  one small file for each way to connect
programs/               what the parties compute
fleet/                  hosts that are other machines, reached over SSH
capture, cpu, measure   figures
aims                    what they are to show of didmpc
sheets, method          what a result says, as tables of text; how it was measured, and what is not in it
report, page, markdown  those on a terminal (and CSV), with plots in HTML, as a document
"""
