//! What a replica's bytes are: looked over without recursion, bounded in work, before anything is made of them.

use super::protocol::{self, FromReplica, Link, Refused};
use serde::{Deserialize, Serialize};

/// The head of a numbered message: a MessagePack array of two, the number as an uint 64, then the frame.
pub const HEAD: usize = 10;
/// How deep values of a frame may lie in each other; ours lie at most 5 deep.
const DEPTH: usize = 16;
/// How many values a frame may have: a checkpoint of 10,000 sends has 50,000.
const VALUES: u64 = 250_000;
/// The kinds of [`FromReplica`].
const KINDS: [&str; 8] = ["ready", "event", "checkpoint", "writes", "read", "manage", "end", "pong"];
/// The kinds of [`Link`].
const LINKS: [&str; 4] = ["hello", "ack", "chunk", "refused"];
/// What is repeated of an unknown kind.
const SHOWN: usize = 64;

/// What a replica's message holds.
#[derive(Debug)]
pub enum Content {
    /// A frame of a run, or of the replica.
    Frame(FromReplica),
    /// A frame of the connection.
    Link(Link),
    /// What this version does not know, or cannot read: what the replica is told.
    Refused(Refused),
}

/// Why bytes are no frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unreadable {
    #[error("it ends too early")]
    Short,
    #[error("bytes follow it")]
    Long,
    #[error("it is no MessagePack")]
    Marker,
    #[error("values lie more than {DEPTH} deep in it")]
    Deep,
    #[error("it has more than {VALUES} values")]
    Many,
}

/// A frame with room for a head before it.
pub fn encode<T: Serialize>(frame: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = vec![0; HEAD];
    rmp_serde::encode::write_named(&mut bytes, frame)?;
    Ok(bytes)
}

/// Writes the head of a message.
pub fn number(message: &mut [u8], seq: u64) {
    if let Some(head) = message.first_chunk_mut::<HEAD>() {
        head[..2].copy_from_slice(b"\x92\xcf");
        head[2..].copy_from_slice(&seq.to_be_bytes());
    }
}

/// The number of a message.
pub fn numbered(message: &[u8]) -> Option<u64> {
    let head = message.first_chunk::<HEAD>()?;
    let seq = head.strip_prefix(b"\x92\xcf")?;
    Some(u64::from_be_bytes(seq.try_into().ok()?))
}

/// What a frame's bytes mean.
pub fn read(frame: &[u8]) -> Content {
    let refused = |kind: &str, reason: String, about: About| {
        Content::Refused(Refused {
            kind: kind.to_owned(),
            reason,
            run: about.run,
            attempt: about.attempt,
            id: about.id,
        })
    };
    if let Err(why) = survey(frame) {
        return refused(kind(frame).unwrap_or_default(), why.to_string(), About::default());
    }
    let Some(kind) = kind(frame) else {
        return refused("", "a frame is a map of one kind to its fields".to_owned(), About::default());
    };
    let read = if KINDS.contains(&kind) {
        protocol::decode(frame).map(Content::Frame)
    } else if LINKS.contains(&kind) {
        rmp_serde::from_slice(frame).map(Content::Link)
    } else {
        let shown: String = kind.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        return refused(&shown, format!("unknown kind {shown}"), about(frame));
    };
    read.unwrap_or_else(|error| refused(kind, error.to_string(), about(frame)))
}

/// What can be said of a frame whose kind or fields are not understood.
#[derive(Default, Deserialize)]
#[serde(default)]
struct About {
    run: Option<String>,
    attempt: u32,
    id: u64,
}

fn about(frame: &[u8]) -> About {
    let body: Result<std::collections::HashMap<String, About>, _> = rmp_serde::from_slice(frame);
    body.ok().and_then(|body| body.into_values().next()).unwrap_or_default()
}

/// The one key of a frame.
fn kind(frame: &[u8]) -> Option<&str> {
    let (&[map, marker], rest) = frame.split_first_chunk::<2>()?;
    let (length, rest) = match marker {
        0xa0..=0xbf => (usize::from(marker & 0x1f), rest),
        0xd9 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        _ => return None,
    };
    (map == 0x81).then(|| std::str::from_utf8(rest.get(..length)?).ok()).flatten()
}

/// Walks through a MessagePack value without recursion.
fn survey(bytes: &[u8]) -> Result<(), Unreadable> {
    let mut open: Vec<u64> = vec![1];
    let (mut values, mut at) = (0_u64, 0_usize);
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        values += 1;
        if values > VALUES {
            return Err(Unreadable::Many);
        }
        let marker = *bytes.get(at).ok_or(Unreadable::Short)?;
        at += 1;
        let length = |width: usize| -> Result<usize, Unreadable> {
            let bytes = bytes.get(at..at + width).ok_or(Unreadable::Short)?;
            Ok(bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        };
        // How many bytes follow, and how many values lie in it.
        let (skip, inner) = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0x80..=0x8f => (0, 2 * usize::from(marker & 0x0f)),
            0x90..=0x9f => (0, usize::from(marker & 0x0f)),
            0xa0..=0xbf => (usize::from(marker & 0x1f), 0),
            0xc4 | 0xd9 => (1 + length(1)?, 0),
            0xc5 | 0xda => (2 + length(2)?, 0),
            0xc6 | 0xdb => (4 + length(4)?, 0),
            0xc7 => (2 + length(1)?, 0),
            0xc8 => (3 + length(2)?, 0),
            0xc9 => (5 + length(4)?, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 | 0xd4 => (2, 0),
            0xd5 => (3, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xd6 => (5, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xd7 => (9, 0),
            0xd8 => (17, 0),
            0xdc => (2, length(2)?),
            0xdd => (4, length(4)?),
            0xde => (2, 2 * length(2)?),
            0xdf => (4, 2 * length(4)?),
            0xc1 => return Err(Unreadable::Marker),
        };
        at += skip;
        if at > bytes.len() {
            return Err(Unreadable::Short);
        }
        if inner > 0 {
            if open.len() == DEPTH {
                return Err(Unreadable::Deep);
            }
            open.push(inner as u64);
        }
    }
    if at == bytes.len() { Ok(()) } else { Err(Unreadable::Long) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> Refused {
        match read(bytes) {
            Content::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unknown_kind_is_named_with_what_it_is_about() {
        let said = refused(b"\x81\xa5later\x83\xa3run\xa1r\xa7attempt\x02\xa2id\x07");
        assert_eq!((said.kind.as_str(), said.run.as_deref(), said.attempt, said.id), ("later", Some("r"), 2, 7));
        assert_eq!(refused(b"\x81\xa4\x1b[2J\x80").kind, "\\u{1b}[2J");
    }

    #[test]
    fn a_known_kind_with_a_wrong_field_names_its_run() {
        let said = refused(b"\x81\xa3end\x83\xa3run\xa1r\xa7attempt\x01\xa6status\xa4odd!");
        assert_eq!((said.kind.as_str(), said.run.as_deref()), ("end", Some("r")));
    }

    #[test]
    fn nothing_is_made_of_what_lies_too_deep_or_is_too_much() {
        let mut deep = b"\x81\xa4pong\x81\xa1x".to_vec();
        deep.extend(vec![0x91; 100_000]);
        deep.push(0xc0);
        assert_eq!(refused(&deep).reason, Unreadable::Deep.to_string());

        let mut many = b"\x81\xa5event\x81\xa2ns\xdd\x00\x04\x00\x00".to_vec();
        many.extend(vec![0xa0; 0x40000]);
        assert_eq!(refused(&many).reason, Unreadable::Many.to_string());

        // An array that claims to be larger than what came, twice as far as numbers go.
        assert_eq!(refused(b"\x81\xa4pong\xdf\xff\xff\xff\xff").reason, Unreadable::Short.to_string());
        assert_eq!(refused(b"").reason, Unreadable::Short.to_string());
        assert_eq!(refused(b"\x81\xa4pong\x80\x00").reason, Unreadable::Long.to_string());
    }

    #[test]
    fn a_heads_number_comes_back() {
        let mut message = encode(&Link::Ack(protocol::Ack { seq: 3, credit: 4 })).unwrap();
        number(&mut message, 1 << 40);
        assert_eq!(numbered(&message), Some(1 << 40));
        assert!(matches!(read(&message[HEAD..]), Content::Link(Link::Ack(ack)) if ack.seq == 3 && ack.credit == 4));
        assert_eq!(numbered(b"\x92\xcf\x00"), None);
    }
}
