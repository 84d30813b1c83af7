//! Reader of the server name in a TLS `ClientHello` (RFC 8446 4.1.2, RFC 6066 3). Pure; consumes nothing.
//!
//! It is strict, so that the server behind it cannot read another name out of the same bytes: lengths
//! must fit exactly, the extension stands once and holds one name.

use crate::egress::Defaults;

/// What the first bytes of a stream are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspection {
    /// The start of a `ClientHello`: more bytes are needed.
    Incomplete,
    /// Not TLS.
    NotTls,
    /// TLS, but no `ClientHello` that follows the rules, or one longer than [`Defaults::HELLO_BYTES`].
    Malformed,
    /// A whole `ClientHello`.
    Hello {
        /// The name in `server_name`, as it was written.
        server_name: Option<String>,
    },
}

/// Record header: type, version, length (RFC 8446 5.1).
const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The longest plain record.
const RECORD_BYTES: usize = 1 << 14;

/// Says what `bytes`, the first of a stream, are.
pub fn inspect(bytes: &[u8]) -> Inspection {
    match bytes {
        [] | [HANDSHAKE] => return Inspection::Incomplete,
        [HANDSHAKE, 3, ..] => {}
        _ => return Inspection::NotTls,
    }
    // A ClientHello may be spread over several records.
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        if let Some(done) = hello(&message) {
            return done;
        }
        let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) else {
            let prefix_fits = rest.first().is_none_or(|kind| *kind == HANDSHAKE);
            return if prefix_fits { Inspection::Incomplete } else { Inspection::Malformed };
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != HANDSHAKE || header[1] != 3 || length == 0 || length > RECORD_BYTES {
            return Inspection::Malformed;
        }
        let part = &after[..length.min(after.len())];
        message.extend_from_slice(part);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Inspection::Malformed;
        }
        if part.len() < length {
            // The message may be whole already only when its record is, so more is needed.
            return match hello_length(&message) {
                Some(length) if length > Defaults::HELLO_BYTES => Inspection::Malformed,
                _ => Inspection::Incomplete,
            };
        }
        rest = &after[length..];
    }
}

fn hello_length(message: &[u8]) -> Option<usize> {
    let [_, high, middle, low, ..] = message else { return None };
    Some((usize::from(*high) << 16) | (usize::from(*middle) << 8) | usize::from(*low))
}

/// The finding, once the message is whole (or can no longer become a good one).
fn hello(message: &[u8]) -> Option<Inspection> {
    let length = hello_length(message)?;
    if length > Defaults::HELLO_BYTES {
        return Some(Inspection::Malformed);
    }
    let body = &message[4..];
    if body.len() < length {
        return None;
    }
    // A client has to wait for the answer: nothing may follow in the same record.
    let whole = body.len() == length;
    Some(server_name(body).filter(|_| whole).unwrap_or(Inspection::Malformed))
}

/// The finding for the body of a whole message; `None` when it breaks a rule.
fn server_name(body: &[u8]) -> Option<Inspection> {
    let mut hello = Reader(body);
    hello.take(2 + 32)?;
    let session = hello.vector_u8()?;
    let ciphers = hello.vector_u16()?;
    let compressions = hello.vector_u8()?;
    if session.len() > 32 || ciphers.is_empty() || ciphers.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    if hello.0.is_empty() {
        return Some(Inspection::Hello { server_name: None });
    }
    let mut extensions = Reader(hello.vector_u16()?);
    if !hello.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vector_u16()?;
        if kind == 0 && found.replace(name_in(content)?).is_some() {
            return None;
        }
    }
    Some(Inspection::Hello { server_name: found })
}

/// The one `host_name` of a `server_name` extension.
fn name_in(content: &[u8]) -> Option<String> {
    let mut extension = Reader(content);
    let mut list = Reader(extension.vector_u16()?);
    let kind = list.take(1)?;
    let name = list.vector_u16()?;
    let only = extension.0.is_empty() && list.0.is_empty();
    if !only || kind != [0] || name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|part| u16::from_be_bytes([part[0], part[1]]))
    }

    fn vector_u8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    fn vector_u16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// What rustls says first to `name`; without a name for an address.
    pub(crate) fn rustls_hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn named(name: &str) -> Inspection {
        Inspection::Hello { server_name: Some(name.into()) }
    }

    /// The same handshake message in records of `size` bytes.
    fn split(hello: &[u8], size: usize) -> Vec<u8> {
        hello[RECORD_HEADER..]
            .chunks(size)
            .flat_map(|part| {
                let length = u16::try_from(part.len()).unwrap().to_be_bytes();
                [&[HANDSHAKE, 3, 1], length.as_slice(), part].concat()
            })
            .collect()
    }

    fn with_extensions(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let mut message = vec![CLIENT_HELLO, 0];
        message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
        let mut record = vec![HANDSHAKE, 3, 1];
        record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        record.extend(message);
        record
    }

    #[test]
    fn the_name_that_rustls_asks_for_is_found_however_it_is_cut() {
        let hello = rustls_hello("api.example.com");
        assert_eq!(inspect(&hello), named("api.example.com"));
        assert_eq!(inspect(&rustls_hello("192.0.2.7")), Inspection::Hello { server_name: None });
        for size in [1, 3, 50, 200] {
            assert_eq!(inspect(&split(&hello, size)), named("api.example.com"), "{size}");
        }
        for cut in 0..hello.len() {
            assert_eq!(inspect(&hello[..cut]), Inspection::Incomplete, "{cut}");
        }
        let early_data = [hello.as_slice(), &[20, 3, 3, 0, 1, 1]].concat();
        assert_eq!(inspect(&early_data), named("api.example.com"));
    }

    #[test]
    fn other_protocols_are_not_tls() {
        for text in ["GET / HTTP/1.1", "SSH-2.0-x", "\0\0\0\u{8}", "\u{16}\u{2}"] {
            assert_eq!(inspect(text.as_bytes()), Inspection::NotTls, "{text:?}");
        }
        // SSL 2's hello.
        assert_eq!(inspect(&[0x80, 0x2e, 1, 0, 2]), Inspection::NotTls);
    }

    #[test]
    fn a_hello_with_two_names_or_odd_lengths_is_malformed() {
        let one = [0, 0, 0, 6, 0, 4, 0, 0, 1, b'a'];
        assert_eq!(inspect(&with_extensions(&one)), named("a"));
        let twice = [one, one].concat();
        let two_names = [0, 0, 0, 10, 0, 8, 0, 0, 1, b'a', 0, 0, 1, b'b'];
        let empty = [0, 0, 0, 5, 0, 3, 0, 0, 0];
        let trailing = [0, 0, 0, 7, 0, 4, 0, 0, 1, b'a', 0];
        let nul = [0, 0, 0, 7, 0, 5, 0, 0, 2, b'a', 0];
        for extensions in [twice.as_slice(), &two_names, &empty, &trailing, &nul, &one[..9]] {
            assert_eq!(inspect(&with_extensions(extensions)), Inspection::Malformed, "{extensions:?}");
        }
        assert_eq!(inspect(&with_extensions(&[])), Inspection::Hello { server_name: None });
    }

    #[test]
    fn records_that_cannot_hold_a_hello_are_malformed_at_once() {
        for bytes in [
            [HANDSHAKE, 3, 1, 0, 0, 0].as_slice(),
            &[HANDSHAKE, 3, 1, 0xff, 0xff, 1],
            &[HANDSHAKE, 3, 1, 1, 0, 2],
            &[HANDSHAKE, 3, 1, 0x40, 0, 1, 0xff, 0, 0],
            &[HANDSHAKE, 3, 1, 0, 1, 1, 23],
        ] {
            assert_eq!(inspect(bytes), Inspection::Malformed, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = inspect(&bytes);
            let _ = inspect(&[[HANDSHAKE, 3].as_slice(), &bytes].concat());
            let _ = inspect(&with_extensions(&bytes));
        }

        #[test]
        fn a_damaged_hello_never_panics(at in 0_usize..150, byte in any::<u8>()) {
            let mut hello = rustls_hello("api.example.com");
            let at = at % hello.len();
            hello[at] = byte;
            let _ = inspect(&hello);
        }
    }
}
