"""DIDs and their documents, and the connections that the mediator makes to fetch them."""
