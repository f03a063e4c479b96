"""Whatever touches the insides of another library: brokers, and the servers of sockets."""
