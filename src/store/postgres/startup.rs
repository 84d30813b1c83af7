//! The first packet of a Postgres client (frontend/backend protocol 3, "Message Formats"). Pure.

/// The longest first packet that Postgres itself takes.
pub const MAX_BYTES: usize = 10_000;

const CANCEL: i32 = 80_877_102;
const SSL: i32 = 80_877_103;
const GSS: i32 = 80_877_104;

/// What a client wants first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// TLS or GSS, which a Unix socket needs not: the answer is `N`, and another packet follows.
    Encryption,
    /// To cancel what another connection does; Postgres wants that one's own key.
    Cancel,
    /// To connect as this user to this database.
    Start {
        /// `user`
        user: String,
        /// `database`; without one Postgres takes the user's name.
        database: String,
    },
}

/// Why a packet is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// Its length cannot be right.
    #[error("the first packet is malformed")]
    Malformed,
    /// A version of the protocol that is not 3.
    #[error("only version 3 of the protocol is spoken")]
    Version,
    /// Replication reads what other databases hold.
    #[error("no replication connections")]
    Replication,
}

/// The length of the packet that begins so, once four bytes are there.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, StartupError> {
    let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*head)).map_err(|_| StartupError::Malformed)?;
    if (8..=MAX_BYTES).contains(&length) { Ok(Some(length)) } else { Err(StartupError::Malformed) }
}

/// Reads a whole packet.
pub fn parse(packet: &[u8]) -> Result<First, StartupError> {
    let (head, rest) = packet.split_first_chunk::<8>().ok_or(StartupError::Malformed)?;
    let code = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    match code {
        SSL | GSS if rest.is_empty() => return Ok(First::Encryption),
        // Keys are 4 bytes long, from protocol 3.2 on up to 256.
        CANCEL if (8..=260).contains(&rest.len()) => return Ok(First::Cancel),
        _ if code >> 16 == 3 => {}
        SSL | GSS | CANCEL => return Err(StartupError::Malformed),
        _ => return Err(StartupError::Version),
    }
    let text = rest.strip_suffix(b"\0").ok_or(StartupError::Malformed)?;
    let (mut user, mut database) = (None, None);
    if !text.is_empty() {
        let text = text.strip_suffix(b"\0").ok_or(StartupError::Malformed)?;
        let mut words = text.split(|byte| *byte == 0);
        while let Some(name) = words.next() {
            let value = words.next().ok_or(StartupError::Malformed)?;
            let value = std::str::from_utf8(value).map_err(|_| StartupError::Malformed)?;
            let place = match name {
                b"user" => &mut user,
                b"database" => &mut database,
                b"replication" => return Err(StartupError::Replication),
                _ => continue,
            };
            // Which of two Postgres would take is not for us to guess.
            if place.replace(value.to_owned()).is_some() {
                return Err(StartupError::Malformed);
            }
        }
    }
    let user = user.filter(|user| !user.is_empty()).ok_or(StartupError::Malformed)?;
    let database = database.filter(|database| !database.is_empty()).unwrap_or_else(|| user.clone());
    Ok(First::Start { user, database })
}

/// Postgres' message of a fatal error, as its clients show it.
pub fn refusal(code: &str, message: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (kind, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', message)] {
        fields.push(kind);
        fields.extend_from_slice(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let length = i32::try_from(fields.len() + 4).unwrap_or(i32::MAX);
    [b"E".as_slice(), &length.to_be_bytes(), &fields].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: i32, rest: &[u8]) -> Vec<u8> {
        let length = i32::try_from(rest.len() + 8).unwrap();
        [length.to_be_bytes().as_slice(), &code.to_be_bytes(), rest].concat()
    }

    #[test]
    fn who_wants_where_is_read_and_what_is_doubtful_refused() {
        let start = |rest: &[u8]| parse(&packet(3 << 16, rest));
        let to = |user: &str, database: &str| Ok(First::Start { user: user.into(), database: database.into() });
        assert_eq!(start(b"user\0a\0database\0b\0application_name\0x\0\0"), to("a", "b"));
        assert_eq!(start(b"user\0a\0\0"), to("a", "a"));
        assert_eq!(start(b"user\0a\0options\0\0\0"), to("a", "a"));
        for rest in [
            b"".as_slice(),
            b"\0",
            b"user\0a\0",
            b"user\0a",
            b"user\0a\0user\0rapidclaw\0\0",
            b"user\0\xff\0\0",
            b"database\0x\0\0",
            b"user\0\0\0",
        ] {
            assert_eq!(start(rest), Err(StartupError::Malformed), "{rest:?}");
        }
        assert_eq!(start(b"user\0a\0replication\0database\0\0"), Err(StartupError::Replication));
        assert_eq!(parse(&packet(2 << 16, b"user\0a\0\0")), Err(StartupError::Version));
        assert_eq!(parse(&packet(SSL, b"")), Ok(First::Encryption));
        assert_eq!(parse(&packet(CANCEL, &[0; 8])), Ok(First::Cancel));
        assert_eq!(parse(&packet(CANCEL, &[0; 3])), Err(StartupError::Malformed));
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(length(&[0, 0, 0]), Ok(None));
        assert_eq!(length(&packet(SSL, b"")), Ok(Some(8)));
        for bytes in [[0, 0, 0, 7], [0, 1, 0, 0], [0xff; 4]] {
            assert_eq!(length(&bytes), Err(StartupError::Malformed), "{bytes:?}");
        }
    }
}
