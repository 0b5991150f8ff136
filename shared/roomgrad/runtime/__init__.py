"""The runtime of a component: from the server to a handler and back, one commit a message."""
