"""The runner: executes graphs in a replica. See PROTOCOL.md."""
