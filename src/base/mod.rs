//! Layer 0: identifiers, environment, folders, the machine's memory and disks, secrets and what blots them out, shutdown, telemetry. Imports nothing of ours.

pub mod disk;
pub mod env;
pub mod http;
pub mod ids;
pub mod machine;
pub mod open_connections;
pub mod open_files;
pub mod paths;
pub mod pipe;
pub mod plain;
pub mod redact;
pub mod secret;
pub mod serve;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod text;
