//! Reads of threads: of their newest state, and of what replicas ask of them.

use super::checkpoints::{self, Page, Schema};
use super::postgres::HotConnection;
use super::{Store, StoreError};
use crate::runner::protocol::{Read, Tuple};

impl Store {
    /// The newest checkpoint of a thread's root graph.
    pub async fn newest_checkpoint(&self, schema: &Schema, thread: &str) -> Result<Option<Tuple>, StoreError> {
        let ask = async |connection: &mut HotConnection| {
            Ok(checkpoints::get(&mut **connection, schema, thread, "", None).await?)
        };
        self.reads.ask(ask).await
    }

    /// The document that a target keeps of a thread, as text.
    pub async fn document(&self, schema: &Schema, thread: &str, target: &str) -> Result<Option<String>, StoreError> {
        let ask = async |connection: &mut HotConnection| {
            Ok(checkpoints::document(&mut **connection, schema, thread, target).await?)
        };
        self.reads.ask(ask).await
    }

    /// Answers what a replica asks of its threads.
    pub async fn read_checkpoints(&self, schema: &Schema, read: &Read) -> Result<Page, StoreError> {
        self.reads.ask(async |connection| Ok(checkpoints::read(connection, schema, read).await?)).await
    }
}
