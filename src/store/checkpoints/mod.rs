//! stub until the branch lands
use crate::runner::protocol::{Checkpoint, Manage, Read, Tuple, Writes};
use sqlx::{PgConnection, PgPool};
pub struct Schema(String);
impl Schema {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
    pub fn name(&self) -> &str {
        &self.0
    }
}
#[derive(Debug)]
pub enum Op {
    Checkpoint(Box<Checkpoint>),
    Writes(Writes),
}
impl From<Checkpoint> for Op {
    fn from(c: Checkpoint) -> Self {
        Self::Checkpoint(Box::new(c))
    }
}
impl From<Writes> for Op {
    fn from(c: Writes) -> Self {
        Self::Writes(c)
    }
}
impl Op {
    pub fn id(&self) -> u64 {
        match self {
            Self::Checkpoint(c) => c.id,
            Self::Writes(w) => w.id,
        }
    }
}
pub async fn apply(_: &mut PgConnection, _: &Schema, _: &[&Op]) -> Result<(), sqlx::Error> {
    Ok(())
}
pub async fn get(_: &PgPool, _: &Schema, _: &str, _: &str, _: Option<&str>) -> Result<Option<Tuple>, sqlx::Error> {
    Ok(None)
}
pub async fn read(_: &PgPool, _: &Schema, _: &Read) -> Result<Vec<Tuple>, sqlx::Error> {
    Ok(vec![])
}
pub async fn manage(_: &PgPool, _: &Schema, _: &Manage) -> Result<(), sqlx::Error> {
    Ok(())
}
pub async fn ensure_schema(_: &PgPool, _: &Schema) -> Result<(), sqlx::Error> {
    Ok(())
}
