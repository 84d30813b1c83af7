//! Frames of replicas: whatever a compromised one sends, it is a frame or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rapidclaw::run::chat::ChatShape;
use rapidclaw::runner::protocol;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = protocol::decode(bytes) {
        let _ = format!("{frame:?}");
    }
    if let Ok(schema) = serde_json::from_slice(bytes) {
        let _ = ChatShape::of(&schema, None);
    }
});
