//! Agents' own databases: what they may not do to backups, restores, the server and each other.
