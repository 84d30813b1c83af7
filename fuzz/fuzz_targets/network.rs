//! First bytes of strangers: TLS client hellos, CONNECT requests, Postgres startup packets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rapidclaw::egress::{client_hello, head};
use rapidclaw::store::postgres::startup;

fuzz_target!(|bytes: &[u8]| {
    // A name that is read does not change when more bytes come.
    let whole = client_hello::inspect(bytes);
    let half = client_hello::inspect(&bytes[..bytes.len() / 2]);
    let _ = (format!("{whole:?}"), format!("{half:?}"));
    if let Ok(Some(connect)) = head::parse(bytes) {
        assert!(connect.length <= bytes.len());
    }
    if let Ok(Some(length)) = startup::length(bytes) {
        assert!(length <= startup::MAX_BYTES);
        if let Some(packet) = bytes.get(..length) {
            let _ = startup::parse(packet);
        }
    }
    let _ = startup::parse(bytes);
});
