use super::*;
use crate::runner::codec::Content;
use crate::runner::protocol::{Cancel, LARGE_BYTES, Start, WINDOW_BYTES};

fn session(credit: u64) -> Arc<Session> {
    Session::begin(&Hello { session: Some("s".into()), credit, max_bytes: u64::MAX, ..Hello::default() })
}

fn start(run: &str, bytes: usize) -> ToReplica {
    let input = Some(ByteBuf::from(vec![b'x'; bytes]));
    ToReplica::Start(Box::new(Start { run: run.into(), input, ..Start::default() }))
}

fn cancel(run: &str) -> ToReplica {
    ToReplica::Cancel(Cancel { run: run.into(), attempt: 1, action: "interrupt".into(), reason: String::new() })
}

/// Number and kind of each message, a chunk with what is left after it.
fn sent(session: &Session) -> Vec<(u64, String)> {
    let mut sent = Vec::new();
    loop {
        let batch = session.take();
        if batch.is_empty() {
            return sent;
        }
        for message in batch {
            let kind = match codec::read(&message[HEAD..]) {
                Content::Link(Link::Chunk(chunk)) => format!("chunk {}", chunk.left),
                Content::Link(Link::Ack(ack)) => format!("ack {} {}", ack.seq, ack.credit),
                Content::Link(other) => format!("{other:?}"),
                // Frames of a gateway are unknown kinds to a gateway.
                Content::Refused(refused) => format!("{} {}", refused.kind, refused.run.unwrap_or_default()),
                Content::Frame(frame) => format!("{frame:?}"),
            };
            sent.push((codec::numbered(&message).unwrap(), kind));
        }
    }
}

fn message(seq: u64, bytes: usize) -> Bytes {
    let mut message = codec::encode(&Link::Chunk(Chunk { left: 0, data: ByteBuf::from(vec![0; bytes]) })).unwrap();
    codec::number(&mut message, seq);
    Bytes::from(message)
}

#[test]
fn a_large_frame_stops_no_other_runs_frames_and_none_of_its_own_run_overtakes_it() {
    let session = session(WINDOW_BYTES);
    let sender = FrameSender::new(Arc::clone(&session));
    sender.send(start("large", LARGE_BYTES + 1)).unwrap();
    sender.send(cancel("large")).unwrap();
    sender.send(start("small", 1)).unwrap();
    let sent = sent(&session);

    let numbers: Vec<u64> = sent.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=sent.len() as u64).collect::<Vec<_>>());
    let at = |kind: &str| sent.iter().position(|(_, sent)| sent == kind).unwrap_or_else(|| panic!("{kind}: {sent:?}"));
    assert!(at("start small") < at("chunk 0") && at("chunk 0") < at("cancel large"), "{sent:?}");
}

#[test]
fn without_credit_nothing_is_sent_and_with_it_the_rest() {
    let session = session(1);
    let sender = FrameSender::new(Arc::clone(&session));
    sender.send(cancel("a")).unwrap();
    sender.send(cancel("b")).unwrap();
    assert_eq!(sent(&session), [(1, "cancel a".to_owned())]);
    assert!(session.is_starved());

    session.acknowledged(Ack { seq: 1, credit: WINDOW_BYTES });
    assert_eq!(sent(&session), [(2, "cancel b".to_owned())]);
    assert!(!session.is_starved());
}

#[test]
fn a_new_socket_carries_again_what_has_not_come_and_nothing_else() {
    let session = session(WINDOW_BYTES);
    let sender = FrameSender::new(Arc::clone(&session));
    for run in ["a", "b", "c"] {
        sender.send(cancel(run)).unwrap();
    }
    assert_eq!(sent(&session).len(), 3);
    session.acknowledged(Ack { seq: 1, credit: 0 });

    // The second has come too, though that was not told.
    let hello = |session: &str, resumed, received| Hello {
        session: Some(session.to_owned()),
        resumed,
        received,
        credit: WINDOW_BYTES,
        ..Hello::default()
    };
    assert!(!session.resume(&hello("s", false, 2)) && !session.resume(&hello("other", true, 2)));
    assert!(!session.resume(&hello("s", true, 4)), "a message that was never sent");
    assert!(session.resume(&hello("s", true, 2)));
    sender.send(cancel("d")).unwrap();
    assert_eq!(sent(&session), [(3, "cancel c".to_owned()), (4, "cancel d".to_owned())]);
}

#[test]
fn what_came_twice_counts_once_and_a_gap_is_an_offence() {
    let session = session(0);
    assert!(matches!(session.arrived(&message(1, 9)), Ok(Arrived::Frame(_))));
    assert!(matches!(session.arrived(&message(1, 9)), Ok(Arrived::Nothing)));
    assert!(matches!(session.arrived(&message(0, 9)), Ok(Arrived::Frame(_))));
    assert!(matches!(session.arrived(&message(3, 9)), Err(Offence::Number)));
    assert!(matches!(session.arrived(&Bytes::from_static(b"\x81\xa4pong\x80")), Err(Offence::Number)));
    assert_eq!(Session::hello(Some(&session)).received, 1);
}

#[test]
fn what_is_held_is_granted_again_when_it_is_given_back() {
    let session = session(0);
    let mut held = Vec::new();
    let mut seq = 0;
    let refused = loop {
        seq += 1;
        match session.arrived(&message(seq, LARGE_BYTES - 64)) {
            Ok(_) => held.push(session.hold(LARGE_BYTES)),
            Err(offence) => break offence,
        }
        assert!(seq < 100, "a replica may send without end");
    };
    assert_eq!(refused, Offence::Credit);
    assert!((16..=20).contains(&held.len()), "{} MiB", held.len());

    drop(held);
    assert!(session.arrived(&message(seq, 9)).is_ok());
    let told = sent(&session);
    let last = told.last().unwrap();
    assert!(last.1.starts_with("ack ") && last.0 == 0, "{told:?}");
}

#[test]
fn chunks_make_a_frame_or_are_an_offence() {
    let session = session(0);
    let chunk = |left, bytes| Chunk { left, data: ByteBuf::from(vec![7; bytes]) };
    assert!(matches!(session.chunk(&chunk(5, 3)), Ok(Arrived::Nothing)));
    assert!(matches!(session.chunk(&chunk(0, 5)), Ok(Arrived::Whole(whole)) if whole == [7; 8]));
    assert!(matches!(session.chunk(&chunk(u64::MAX, 3)), Err(Offence::Chunks)));
    assert!(matches!(session.chunk(&chunk(5, 3)), Ok(Arrived::Nothing)));
    assert!(matches!(session.chunk(&chunk(5, 3)), Err(Offence::Chunks)));
    assert!(matches!(session.chunk(&chunk(5, 0)), Err(Offence::Chunks)));
}

#[test]
fn what_is_too_large_is_never_sent_and_its_asker_hears_of_it() {
    let session = Session::plain();
    let sender = FrameSender::new(Arc::clone(&session));
    let limit = protocol::MAX_MESSAGE_BYTES;
    let error = sender.send(start("large", limit)).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { bytes, .. } if bytes > limit), "{error}");

    let tuple = protocol::Tuple {
        thread_id: "t".into(),
        ns: String::new(),
        checkpoint_id: "c".into(),
        parent_id: None,
        checkpoint: ByteBuf::from(vec![b' '; limit]),
        metadata: ByteBuf::new(),
        blobs: vec![],
        writes: vec![],
    };
    sender.send(ToReplica::Reply(Reply { id: 7, tuples: vec![tuple], ..Reply::default() })).unwrap();
    let batch = session.take();
    let reply: ToReplica = rmp_serde::from_slice(&batch[0]).unwrap();
    assert!(matches!(reply, ToReplica::Reply(Reply { id: 7, error: Some(_), .. })), "{reply:?}");
}

#[test]
fn a_replica_that_does_not_read_loses_its_connection_and_stops_no_sender() {
    for session in [Session::plain(), session(0)] {
        let sender = FrameSender::new(Arc::clone(&session));
        let mut sends = 0;
        while sender.send(start("r", LARGE_BYTES / 2)).is_ok() {
            sends += 1;
            assert!(sends < 1000, "{sends} frames wait");
        }
        assert_eq!(session.offence(), Some(Offence::Unread));
        assert!(session.is_over());
    }
}
