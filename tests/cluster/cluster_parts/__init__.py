"""What the tests of the cluster stand on: servers, nodes, load, faults, and the journal that judges."""
