"""The same work on other machines: a fleet of hosts that are reached over SSH.

plan      the file of hosts, read and checked
keeper    runs on each host, as long as the connection to it lasts; ends and undoes all that it was told to do
wire      a connection to a host (asyncssh) and the keeper behind it
far       a host of a fleet, as contenders see it
network   all of them, connected
"""
