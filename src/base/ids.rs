//! Identifiers and random tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// The namespace of threads whose given id is no UUID.
const THREADS: Uuid = Uuid::from_u128(0x7261_7069_6463_4c61_8000_7468_7265_6164);

/// A new key for a row: `UUIDv7`, so that keys sort by time.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// The thread that a client's `thread_id` names: itself when it is a UUID, else a `UUIDv5` of it,
/// the same for the same text each time.
pub fn thread_id(given: &str) -> Uuid {
    Uuid::try_parse(given).unwrap_or_else(|_| Uuid::new_v5(&THREADS, given.as_bytes()))
}

/// 32 random bytes as `PREFIX_` and 43 characters of URL-safe base64.
pub fn random_token(prefix: &str) -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_stays_and_other_text_becomes_the_same_uuid_each_time() {
        let id = new_id();
        assert_eq!(thread_id(&id.to_string()), id);
        assert_eq!(thread_id("customer-7"), thread_id("customer-7"));
        assert_ne!(thread_id("customer-7"), thread_id("customer-8"));
        assert_eq!(thread_id("customer-7").get_version_num(), 5);
    }

    #[test]
    fn tokens_differ_and_bear_their_prefix() {
        let (one, two) = (random_token("rck").unwrap(), random_token("rck").unwrap());
        assert!(one.starts_with("rck_") && one.len() == 47);
        assert_ne!(one, two);
    }
}
