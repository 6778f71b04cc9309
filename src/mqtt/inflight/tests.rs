use super::*;

fn acks(sequences: &[u64]) -> AckSet {
    let mut acks = AckSet::default();
    sequences.iter().for_each(|s| acks.add(*s));
    acks
}

fn sent_acks(tracker: &mut InflightTracker) -> Vec<u16> {
    let popped: Vec<_> = std::iter::from_fn(|| tracker.next_acknowledgement()).collect();
    tracker.acks_sent(u64::MAX);
    popped.into_iter().map(|ack| ack.packet_id).collect()
}

#[test]
fn acknowledgements_leave_in_order_of_receipt() {
    let mut tracker = InflightTracker::default();
    for id in [11, 12, 13] {
        tracker.receive(id, 1, false, 0);
    }
    tracker.settle(&acks(&[1, 2]));
    assert_eq!(sent_acks(&mut tracker), [0u16; 0]);
    tracker.settle(&acks(&[0]));
    assert_eq!(sent_acks(&mut tracker), [11, 12, 13]);
    assert_eq!(tracker.receive(14, 1, false, 0), ReceiveOutcome::New(3));
    tracker.settle(&acks(&[0, 3]));
    assert_eq!(sent_acks(&mut tracker), [14]);
}

#[test]
fn a_redelivery_is_recognised_and_acknowledged_once_settled() {
    let mut tracker = InflightTracker::default();
    tracker.receive(1, 1, false, 10);
    tracker.receive(2, 1, false, 20);
    tracker.reconnect(true);
    assert_eq!(sent_acks(&mut tracker), [0u16; 0], "nothing is acknowledged across a reconnect");
    tracker.settle(&acks(&[0]));
    assert_eq!(tracker.receive(1, 1, true, 10), ReceiveOutcome::Duplicate);
    assert_eq!(tracker.receive(2, 1, true, 20), ReceiveOutcome::Duplicate);
    assert_eq!(sent_acks(&mut tracker), [1]);
    tracker.reconnect(true);
    assert_eq!(tracker.receive(2, 1, true, 20), ReceiveOutcome::Duplicate);
    tracker.settle(&acks(&[1]));
    assert_eq!(sent_acks(&mut tracker), [2]);
    assert!(tracker.resumed.is_empty());
    assert_eq!(tracker.redelivered_as.len(), 0);
}

#[test]
fn a_redelivery_on_the_same_connection_is_recognised() {
    let mut tracker = InflightTracker::default();
    tracker.receive(1, 1, false, 10);
    assert_eq!(tracker.receive(1, 1, true, 10), ReceiveOutcome::Duplicate);
    assert_eq!(tracker.receive(1, 1, false, 10), ReceiveOutcome::InUse);
    assert_eq!(tracker.receive(1, 1, true, 99), ReceiveOutcome::InUse);
    tracker.settle(&acks(&[0]));
    assert_eq!(sent_acks(&mut tracker), [1]);
    assert_eq!(tracker.receive(1, 1, false, 10), ReceiveOutcome::New(1));
}

#[test]
fn an_acknowledgement_that_did_not_leave_is_made_again() {
    let mut tracker = InflightTracker::default();
    tracker.receive(1, 1, false, 10);
    tracker.settle(&acks(&[0]));
    let ack = Acknowledgement { sequence: 0, packet_id: 1, qos: 1 };
    assert_eq!(tracker.next_acknowledgement(), Some(ack));
    tracker.reconnect(true);
    assert_eq!(tracker.receive(1, 1, true, 10), ReceiveOutcome::Duplicate);
    assert_eq!(sent_acks(&mut tracker), [1]);
}

#[test]
fn an_acknowledgement_that_left_and_was_lost_is_made_again() {
    let lost = || {
        let mut tracker = InflightTracker::default();
        for id in 1..=2000 {
            let fingerprint = if id == 1999 { 1998 } else { id.into() };
            assert_eq!(tracker.receive(id, 1, false, fingerprint), ReceiveOutcome::New(id as u64 - 1));
        }
        tracker.settle(&acks(&(0..2000).collect::<Vec<_>>()));
        assert_eq!(sent_acks(&mut tracker).len(), 2000);
        tracker
    };
    let mut tracker = lost();
    for _ in 0..2 {
        tracker.reconnect(true);
        assert_eq!(tracker.receive(1500, 1, true, 1500), ReceiveOutcome::Duplicate);
        assert_eq!(tracker.receive(2000, 1, true, 2000), ReceiveOutcome::Duplicate);
        assert_eq!(sent_acks(&mut tracker), [1500, 2000]);
    }
    tracker.reconnect(true);
    assert_eq!(tracker.receive(1997, 1, true, 0), ReceiveOutcome::New(2004), "other content");
    assert_eq!(tracker.receive(1998, 1, true, 1998), ReceiveOutcome::New(2005), "content that came twice");

    let mut tracker = lost();
    tracker.reconnect(true);
    assert_eq!(tracker.receive(2001, 1, false, 2001), ReceiveOutcome::New(2000));
    assert_eq!(
        tracker.receive(2000, 1, true, 2000),
        ReceiveOutcome::Duplicate,
        "some brokers deliver again 30 s later"
    );

    let mut tracker = lost();
    tracker.reconnect(false);
    tracker.reconnect(true);
    assert_eq!(tracker.receive(2000, 1, true, 2000), ReceiveOutcome::New(2000), "of another session");
}

#[test]
fn another_message_under_a_known_packet_id_is_new() {
    let mut tracker = InflightTracker::default();
    tracker.receive(1, 1, false, 10);
    tracker.reconnect(true);
    assert_eq!(tracker.receive(1, 1, true, 99), ReceiveOutcome::New(1));
    tracker.settle(&acks(&[0]));
    assert_eq!(sent_acks(&mut tracker), [0u16; 0], "the old batch does not pay for the new message");
    tracker.settle(&acks(&[1]));
    assert_eq!(sent_acks(&mut tracker), [1]);
}

#[test]
fn a_broker_without_the_session_is_owed_nothing() {
    let mut tracker = InflightTracker::default();
    tracker.receive(1, 1, false, 10);
    tracker.reconnect(false);
    assert_eq!(tracker.receive(1, 1, true, 10), ReceiveOutcome::New(1));
    tracker.settle(&acks(&[0]));
    assert_eq!(sent_acks(&mut tracker), [0u16; 0]);
}

#[test]
fn a_packet_id_of_qos_2_is_remembered_until_it_is_released() {
    let mut tracker = InflightTracker::default();
    tracker.receive(1, 2, false, 10);
    assert_eq!(tracker.release(1), PubrelOutcome::Early);
    tracker.settle(&acks(&[0]));
    assert_eq!(sent_acks(&mut tracker), [1]);
    assert_eq!((tracker.unacknowledged(), tracker.awaiting_pubrel.len()), (0, 1));
    assert_eq!(tracker.receive(1, 2, true, 10), ReceiveOutcome::AwaitingPubrel);
    assert_eq!(tracker.receive(1, 2, true, 99), ReceiveOutcome::InUse);
    assert_eq!(tracker.receive(1, 1, false, 10), ReceiveOutcome::InUse);
    assert_eq!(tracker.release(1), PubrelOutcome::Known);
    assert_eq!((tracker.release(1), tracker.awaiting_pubrel.len()), (PubrelOutcome::Unknown, 0));
    assert_eq!(tracker.receive(1, 2, true, 10), ReceiveOutcome::New(1), "[MQTT-4.3.3-12]");
}

#[test]
fn a_packet_id_of_qos_2_is_remembered_over_reconnects() {
    let mut tracker = InflightTracker::default();
    for id in [1, 2, 3] {
        tracker.receive(id, 2, false, 10);
    }
    tracker.settle(&acks(&[0, 1]));
    assert_eq!(sent_acks(&mut tracker), [1, 2]);
    tracker.reconnect(true);
    tracker.reconnect(true);
    assert_eq!(tracker.release(1), PubrelOutcome::Known);
    assert_eq!(tracker.release(1), PubrelOutcome::Unknown);
    assert_eq!(tracker.receive(2, 2, true, 10), ReceiveOutcome::Duplicate);
    assert_eq!(tracker.receive(3, 2, true, 10), ReceiveOutcome::Duplicate);
    assert_eq!(sent_acks(&mut tracker), [2], "its PUBREC was lost; the other is not settled");
    assert_eq!(tracker.release(2), PubrelOutcome::Known);
    tracker.settle(&acks(&[2]));
    assert_eq!(sent_acks(&mut tracker), [3]);
    tracker.reconnect(false);
    assert_eq!(tracker.release(3), PubrelOutcome::Unknown, "a broker that has forgotten the session");
    assert!(tracker.resumed.is_empty());
    assert_eq!((tracker.redelivered_as.len(), tracker.unconfirmed_pubcomps.len()), (0, 0));
}

#[test]
fn a_packet_id_is_remembered_until_our_pubcomp_has_arrived() {
    let resumed = |releases: &[u16]| {
        let mut tracker = InflightTracker::default();
        tracker.receive(1, 2, false, 10);
        tracker.settle(&acks(&[0]));
        assert_eq!(sent_acks(&mut tracker), [1]);
        assert_eq!(tracker.release(1), PubrelOutcome::Known);
        tracker.receive(2, 2, false, 20);
        tracker.settle(&acks(&[1]));
        assert_eq!(sent_acks(&mut tracker), [2]);
        for id in releases {
            assert_eq!(tracker.release(*id), PubrelOutcome::Known);
        }
        tracker.reconnect(true);
        tracker
    };
    let mut tracker = resumed(&[]);
    assert_eq!(tracker.receive(1, 2, true, 10), ReceiveOutcome::Duplicate);
    assert_eq!(sent_acks(&mut tracker), [1]);
    assert_eq!(tracker.release(1), PubrelOutcome::Known);

    let mut tracker = resumed(&[]);
    assert_eq!(tracker.release(1), PubrelOutcome::Unknown);
    assert_eq!(tracker.receive(1, 2, false, 10), ReceiveOutcome::New(2), "[MQTT-4.3.3-12]");

    let mut tracker = resumed(&[]);
    assert_eq!(tracker.receive(3, 2, false, 10), ReceiveOutcome::New(2));
    assert_eq!(tracker.receive(1, 2, true, 10), ReceiveOutcome::New(3), "the broker has gone on");

    let mut tracker = resumed(&[2]);
    assert_eq!(tracker.receive(1, 2, true, 10), ReceiveOutcome::New(2), "the other PUBREL came after it");
    assert_eq!(tracker.receive(2, 2, true, 20), ReceiveOutcome::Duplicate);
}

#[test]
fn a_release_says_that_the_acknowledgement_arrived() {
    let mut tracker = InflightTracker::default();
    tracker.receive(1, 2, false, 10);
    tracker.settle(&acks(&[0]));
    assert!(tracker.next_acknowledgement().is_some());
    assert_eq!(tracker.release(1), PubrelOutcome::Known);
    tracker.acks_sent(u64::MAX);
    assert_eq!((tracker.unacknowledged(), tracker.awaiting_pubrel.len()), (0, 0));
}

#[test]
fn an_early_pubrel_still_waits_for_its_batch() {
    for is_settled_early in [false, true] {
        let mut tracker = InflightTracker::default();
        assert_eq!(tracker.receive(1, 2, false, 7), ReceiveOutcome::New(0));
        tracker.reconnect(true);
        assert_eq!(tracker.release(1), PubrelOutcome::Known);
        if is_settled_early {
            tracker.settle(&acks(&[0]));
        }
        assert_eq!(tracker.receive(1, 2, true, 7), ReceiveOutcome::Duplicate);
        assert_eq!(tracker.next_acknowledgement().is_some(), is_settled_early);
        if !is_settled_early {
            tracker.settle(&acks(&[0]));
            assert!(tracker.next_acknowledgement().is_some());
        }
    }
}

/// A session whose first `acknowledged` messages of `contents` are acknowledged, and the others in a batch.
fn resumed(contents: &[u64], acknowledged: usize) -> InflightTracker {
    let mut tracker = InflightTracker::default();
    for (i, content) in contents.iter().enumerate() {
        assert_eq!(tracker.receive(i as u16 + 1, 1, false, *content), ReceiveOutcome::New(i as u64));
    }
    tracker.settle(&acks(&(0..acknowledged as u64).collect::<Vec<_>>()));
    assert_eq!(sent_acks(&mut tracker).len(), acknowledged);
    tracker.reconnect(true);
    tracker
}

#[test]
fn a_redelivery_under_another_packet_id_is_recognised() {
    let contents: Vec<u64> = (1000..2100).collect();
    let mut tracker = resumed(&contents, 1095);
    // The acknowledgements of the last three were lost, and five were not acknowledged.
    for (id, content) in (1..).zip(2092..2100) {
        assert_eq!(tracker.receive(id, 1, true, content), ReceiveOutcome::Duplicate, "{content}");
    }
    assert_eq!(tracker.receive(9, 1, true, 2100), ReceiveOutcome::New(1108), "it never came before");
    assert_eq!(sent_acks(&mut tracker), [1, 2, 3]);
    tracker.settle(&acks(&[1095, 1096, 1097, 1098, 1099, 1108]));
    assert_eq!(sent_acks(&mut tracker), [4, 5, 6, 7, 8, 9]);
}

/// Without DUP only what is still in a batch is recognised: a message that is equal to an acknowledged one may be a new one.
#[test]
fn a_redelivery_without_dup_is_recognised_while_it_is_in_a_batch() {
    let contents: Vec<u64> = (100..150).collect();
    let mut tracker = resumed(&contents, 48);
    for (id, content) in [(7001, 148), (7002, 149)] {
        assert_eq!(tracker.receive(id, 1, false, content), ReceiveOutcome::Duplicate, "{content}");
    }
    assert_eq!(tracker.receive(7003, 1, false, 147), ReceiveOutcome::New(52), "it was acknowledged");
    assert_eq!(tracker.receive(7004, 1, false, 150), ReceiveOutcome::New(53));
}

#[test]
fn equal_messages_are_as_many_as_they_were() {
    // Two of them were taken; the broker has both, and a third one that never came.
    let mut tracker = resumed(&[5, 5], 0);
    assert_eq!(tracker.receive(11, 1, true, 5), ReceiveOutcome::Duplicate);
    assert_eq!(tracker.receive(12, 1, true, 5), ReceiveOutcome::Duplicate);
    assert_eq!(tracker.receive(13, 1, true, 5), ReceiveOutcome::New(4));
    tracker.settle(&acks(&[0, 1, 4]));
    assert_eq!(sent_acks(&mut tracker), [11, 12, 13]);
    // The publishers repeat themselves: a message that is equal to an acknowledged one may be a new one.
    let contents: Vec<u64> = (0..60).map(|i| i / 2).collect();
    let mut tracker = resumed(&contents, 59);
    assert_eq!(tracker.receive(1, 1, true, 29), ReceiveOutcome::Duplicate, "the one in a batch");
    assert_eq!(tracker.receive(2, 1, true, 29), ReceiveOutcome::New(61));
}

/// As aedes does it: each connection counts from a random id, queued messages come without DUP, some of them twice.
#[test]
fn where_ids_begin_at_random_redeliveries_without_dup_are_recognised() {
    let mut tracker = InflightTracker::default();
    tracker.reconnect(false);
    for i in 0..20 {
        assert_eq!(tracker.receive(40_000 + i, 1, false, u64::from(i)), ReceiveOutcome::New(u64::from(i)));
    }
    tracker.settle(&acks(&(0..15).collect::<Vec<_>>()));
    assert_eq!(sent_acks(&mut tracker).len(), 15);
    tracker.reconnect(true);
    // The last acknowledgements were lost.
    for i in 10..20 {
        assert_eq!(tracker.receive(40_000 + i, 1, false, u64::from(i)), ReceiveOutcome::Duplicate, "{i}");
    }
    assert_eq!(sent_acks(&mut tracker), [40_010, 40_011, 40_012, 40_013, 40_014]);
    for i in 20..30 {
        assert!(matches!(tracker.receive(7_000 + i, 1, false, u64::from(i)), ReceiveOutcome::New(_)), "{i}");
    }
    // One of this connection again, before and after its acknowledgement.
    assert_eq!(tracker.receive(7_029, 1, false, 29), ReceiveOutcome::Duplicate);
    tracker.settle(&acks(&(15..40).collect::<Vec<_>>()));
    assert_eq!(sent_acks(&mut tracker).len(), 15);
    assert_eq!(tracker.receive(7_028, 1, false, 28), ReceiveOutcome::Duplicate);
    // An equal message under the next id is another one.
    assert!(matches!(tracker.receive(7_030, 1, false, 28), ReceiveOutcome::New(_)));
    assert!(matches!(tracker.receive(7_031, 1, false, 28), ReceiveOutcome::New(_)));
    assert!(matches!(tracker.receive(7_030, 1, false, 31), ReceiveOutcome::InUse));
}

#[test]
fn a_recognised_copy_does_not_count_as_content_that_repeats() {
    let mut tracker = InflightTracker::default();
    tracker.reconnect(false);
    for i in 0..1_500 {
        tracker.receive(40_000 + i, 1, false, u64::from(i));
    }
    tracker.settle(&acks(&(0..1_500).collect::<Vec<_>>()));
    assert_eq!(sent_acks(&mut tracker).len(), 1_500);
    tracker.reconnect(true);
    for i in 1_500..1_600 {
        let sequence = match tracker.receive(2 * i, 1, false, u64::from(i)) {
            ReceiveOutcome::New(sequence) => sequence,
            outcome => panic!("{outcome:?} for {i}"),
        };
        tracker.settle(&acks(&[sequence]));
        sent_acks(&mut tracker);
        assert_eq!(tracker.receive(2 * i + 1, 1, false, u64::from(i)), ReceiveOutcome::Duplicate, "{i}");
        sent_acks(&mut tracker);
    }
}
