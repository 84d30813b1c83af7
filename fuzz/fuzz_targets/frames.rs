//! Frames of replicas: whatever a compromised one sends, it is a frame or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rapidclaw::run::chat::ChatShape;
use rapidclaw::runner::codec::{self, Content};
use rapidclaw::runner::protocol::{Hello, Link};
use rapidclaw::runner::session::{Arrived, Session};

fuzz_target!(|bytes: &[u8]| {
    let content = codec::read(bytes);
    let _ = format!("{content:?}");
    // The same as messages of a session: whatever their numbers and chunks, it is a frame or an offence.
    let session = Session::begin(&Hello { session: Some("s".into()), ..Hello::default() });
    for part in bytes.chunks(64) {
        let Ok(Arrived::Frame(frame)) = session.arrived(&part.to_vec().into()) else { continue };
        match codec::read(&frame) {
            Content::Link(Link::Chunk(chunk)) => drop(session.chunk(&chunk)),
            Content::Link(Link::Ack(ack)) => session.acknowledged(ack),
            _ => {}
        }
    }
    if let Ok(schema) = serde_json::from_slice(bytes) {
        let _ = ChatShape::of(&schema, None);
    }
});
