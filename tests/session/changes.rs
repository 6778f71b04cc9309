//! Subscriptions that change on a living session, and what becomes of a change when the connection ends within it.

use millrace::mqtt::Filters;
use rumqttc::mqttbytes::v4::Packet;
use serde_json::json;

use crate::broker::{connack, packet, suback, unsuback};
use crate::client::{Client, FILTERS, options};

/// SUBSCRIBE and UNSUBSCRIBE packets that the client wrote: the packet id, and the filters.
fn requests(client: &mut Client) -> Vec<(&'static str, u16, Vec<String>)> {
    let mut bytes = client.written().as_slice().into();
    let mut requests = Vec::new();
    while let Ok(read) = Packet::read(&mut bytes, usize::MAX) {
        requests.push(match read {
            Packet::Subscribe(it) => {
                ("subscribe", it.pkid, it.filters.into_iter().map(|filter| filter.path).collect())
            }
            Packet::Unsubscribe(it) => ("unsubscribe", it.pkid, it.topics),
            other => panic!("{other:?}"),
        });
    }
    requests
}

fn names(filters: &[&str]) -> Vec<String> {
    filters.iter().map(|filter| (*filter).into()).collect()
}

fn change(client: &mut Client, filters: &[&str]) {
    client.session.set_wanted(Filters::from(names(filters)));
    client.session.update_filters();
}

fn client() -> Client {
    Client::subscribed(&options(4, json!({})), 4)
}

#[test]
fn new_filters_are_granted_before_others_are_given_up() {
    let mut client = client();
    change(&mut client, &[FILTERS[0], "new/#"]);
    assert_eq!(requests(&mut client), [("subscribe", 2, names(&["new/#"]))]);
    client.feed(&suback(4, 2, &[1])).unwrap();
    assert_eq!(client.session.take_change_outcome(), None);
    assert_eq!(requests(&mut client), [("unsubscribe", 3, names(&FILTERS[1..]))]);
    client.feed(&unsuback(4, 3)).unwrap();
    assert_eq!(client.session.take_change_outcome(), Some(Ok(())));
    assert!(client.session.is_subscribed() && client.seen.is_empty());
    // Nothing to do is done at once.
    change(&mut client, &["new/#", FILTERS[0]]);
    assert_eq!(client.session.take_change_outcome(), Some(Ok(())));
    assert_eq!(requests(&mut client), []);
    client.reconnect(4, true);
    assert_eq!(requests(&mut client), []);
    // A broker that forgot the session is asked for all of it.
    client.reconnect(4, false);
    assert_eq!(requests(&mut client), [("subscribe", 4, names(&["new/#", FILTERS[0]]))]);
}

#[test]
fn a_filter_that_is_refused_ends_the_change_and_leaves_the_session() {
    let mut client = client();
    change(&mut client, &["a", "b"]);
    assert_eq!(requests(&mut client), [("subscribe", 2, names(&["a", "b"]))]);
    client.feed(&suback(4, 2, &[1, 0x80])).unwrap();
    let refused = Err(("b".to_string(), "no reason given".to_string()));
    assert_eq!(client.session.take_change_outcome(), Some(refused));
    assert!(client.session.is_subscribed());
    change(&mut client, &FILTERS);
    assert_eq!(requests(&mut client), [("unsubscribe", 3, names(&["a"]))]);
    client.feed(&unsuback(4, 3)).unwrap();
    assert_eq!(client.session.take_change_outcome(), Some(Ok(())));
}

#[test]
fn a_change_that_is_broken_off_is_made_by_the_next_connection() {
    let mut client = client();
    change(&mut client, &[FILTERS[0], "new/#"]);
    client.written();
    // The broker may have taken it or not: all is asked for, and the rest ended, whose answer nobody waits for.
    client.reconnect(4, true);
    let wanted = names(&[FILTERS[0], "new/#"]);
    assert_eq!(requests(&mut client), [("subscribe", 3, wanted), ("unsubscribe", 4, names(&FILTERS[1..]))]);
    client.feed(&unsuback(4, 4)).unwrap();
    assert!(!client.session.is_subscribed());
    client.feed(&suback(4, 3, &[1, 1])).unwrap();
    assert!(client.session.is_subscribed());
    client.session.update_filters();
    assert_eq!(client.session.take_change_outcome(), Some(Ok(())));
    // A second answer is one to nothing.
    let error = client.feed(&unsuback(4, 4)).unwrap_err();
    assert!(error.to_string().contains("does not expect"), "{error}");
}

#[test]
fn unsubscribing_from_all_gives_a_change_up() {
    let mut client = client();
    change(&mut client, &["a"]);
    client.written();
    client.session.unsubscribe();
    let all = [&FILTERS[..], &["a"]].concat();
    assert_eq!(requests(&mut client), [("unsubscribe", 3, names(&all))]);
    client.feed(&suback(4, 2, &[1])).unwrap();
    client.feed(&unsuback(4, 3)).unwrap();
    assert!(client.session.is_unsubscribed());
    assert_eq!(client.session.take_change_outcome(), None);
}

#[test]
fn a_session_from_before_loses_what_the_configuration_names() {
    let mut client = Client::new(&options(4, json!({ "unsubscribe": ["old/#", FILTERS[0]] })));
    client.written();
    client.feed(&connack(4, true)).unwrap();
    assert_eq!(
        requests(&mut client),
        [("subscribe", 1, names(&FILTERS)), ("unsubscribe", 2, names(&["old/#"]))]
    );
    client.feed(&suback(4, 1, &[1, 1])).unwrap();
    client.feed(&packet(0xb0, &[&[0, 2]])).unwrap();
    assert!(client.session.is_subscribed());
    client.reconnect(4, true);
    assert_eq!(requests(&mut client), []);
    // A new session has none of it.
    let mut client = Client::new(&options(4, json!({ "unsubscribe": ["old/#"] })));
    client.written();
    client.feed(&connack(4, false)).unwrap();
    assert_eq!(requests(&mut client), [("subscribe", 1, names(&FILTERS))]);
}
