"""How roomgrad reaches Redis: addresses, TLS, Sentinel, Cluster, connections, clients."""
