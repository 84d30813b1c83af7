//! The runner's contract, both versions: capabilities, sequence numbers, credit, chunks, reconnects.
