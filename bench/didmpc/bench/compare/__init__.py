"""didmpc beside every other way to connect MPC parties: test hosts, contenders, work, figures.

isolate, delay, lab     hosts in network namespaces, the distance between them, their firewalls
hosts                   what a contender sees of them; all that it does there is kept as evidence
contender, contenders/  one small file for each way to connect
programs/               what the parties compute
capture, cpu, measure   figures
sheets                  what a result says, as tables of text
report, page, markdown  those on a terminal (and CSV), with plots in HTML, as a document
"""
