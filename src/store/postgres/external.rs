//! A Postgres that somebody else runs.

use super::error::PostgresError;
use super::options::MIN_MAJOR;
use super::pool::{self, open};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Row as _};
use std::str::FromStr as _;

/// How to connect to the database that a URL names, once it has answered and is fit for us.
pub async fn connect(database_url: &str) -> Result<PgConnectOptions, PostgresError> {
    let known = database_url.starts_with("postgres://") || database_url.starts_with("postgresql://");
    let options = PgConnectOptions::from_str(database_url).ok().filter(|_| known).ok_or(PostgresError::Url)?;
    let options = pool::bounded(options);
    let address = address(&options);
    let failed = |source| PostgresError::Connect { address: address.clone(), source };
    let mut connection = open(&options).await.map_err(failed)?;
    let row = sqlx::query("SELECT current_setting('server_version'), current_setting('server_version_num')::int4, current_setting('server_encoding')")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    let _ = connection.close().await;
    let (version, number, encoding): (String, i32, String) = (row.get(0), row.get(1), row.get(2));
    if u32::try_from(number).unwrap_or_default() < MIN_MAJOR * 10_000 {
        return Err(PostgresError::TooOld { address, version });
    }
    if encoding != "UTF8" {
        return Err(PostgresError::NotUtf8 { address, encoding });
    }
    Ok(options)
}

/// HOST:PORT/DATABASE, for people.
fn address(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}:{}/{database}", socket.display(), options.get_port()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}
