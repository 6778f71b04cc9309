//! Selects the routes of a message: the first whose filter matches its topic, and as long as one has
//! `continue`, the next that does.
//!
//! `check` asks the same for the messages of a sample. The decoder of a route then decides by `where`
//! whether the message is dropped.

use crate::config::Route;
use crate::core::topic_filter::Captures;
use crate::mqtt::{Publish, Subscription, is_primary_copy};

/// The decision by topic and flags of a message.
pub enum Selection<'t> {
    /// The first of its routes, and its topic.
    Route(usize, &'t str),
    /// It is retained and not wanted, or another copy becomes the row.
    Skipped,
    /// No route takes its topic.
    Unrouted(&'t str),
    /// Its topic is not UTF-8.
    NoText,
}

/// The reasons of the dead letters that become of [`Selection::Unrouted`] and [`Selection::NoText`].
pub const NO_ROUTE: &str = "no route takes this topic";
pub const NO_TEXT: &str = "the topic is not UTF-8";

/// `captures` are those of the route's filter then.
#[inline(always)]
pub fn select<'t, R: AsRef<Route>>(
    routes: &[R],
    subscriptions: &[Subscription],
    skip_retained: bool,
    publish: &Publish<'t>,
    captures: &mut Captures,
) -> Selection<'t> {
    if publish.retain && skip_retained {
        return Selection::Skipped;
    }
    let Some(topic) = text(publish.topic) else {
        return Selection::NoText;
    };
    if subscriptions.len() > 1
        && !is_primary_copy(subscriptions, topic, publish.properties.subscription_ids(), captures)
    {
        return Selection::Skipped;
    }
    match first_route(routes, topic, captures) {
        Some(at) => Selection::Route(at, topic),
        None => Selection::Unrouted(topic),
    }
}

/// Topics are mostly ASCII, which is checked faster than UTF-8.
#[inline]
fn text(bytes: &[u8]) -> Option<&str> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}

/// The number of the first route that takes a topic; `captures` are those of its filter then.
#[inline]
pub fn first_route<R: AsRef<Route>>(routes: &[R], topic: &str, captures: &mut Captures) -> Option<usize> {
    routes.iter().position(|route| route.as_ref().topic.matches(topic, captures))
}

/// The number of the route that takes a topic after the route `at` has, if that one has `continue`; `captures` are those of its
/// filter then.
pub fn next_route<R: AsRef<Route>>(
    routes: &[R],
    at: usize,
    topic: &str,
    captures: &mut Captures,
) -> Option<usize> {
    if !routes[at].as_ref().continues {
        return None;
    }
    first_route(&routes[at + 1..], topic, captures).map(|later| at + 1 + later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mqtt_property::Properties;

    #[test]
    fn topic_and_flags_select_a_route_or_say_why_not() {
        let routes = [Route::of_rows("a"), Route::of_rows("b")];
        let selected = |topic: &[u8], retain: bool, skip_retained: bool| {
            let publish = Publish {
                topic,
                payload: b"{}",
                qos: 0,
                retain,
                duplicate: false,
                packet_id: 0,
                fingerprint: 0,
                properties: Properties::NONE,
            };
            match select(&routes, &[], skip_retained, &publish, &mut Captures::default()) {
                Selection::Route(at, topic) => format!("{at} {topic}"),
                Selection::Skipped => "skipped".into(),
                Selection::Unrouted(topic) => format!("unrouted {topic}"),
                Selection::NoText => "no text".into(),
            }
        };
        assert_eq!(selected(b"$rows/b", false, false), "1 $rows/b");
        assert_eq!(selected(b"$rows/b", true, false), "1 $rows/b");
        assert_eq!(selected(b"$rows/b", true, true), "skipped");
        assert_eq!(selected(b"c", false, false), "unrouted c");
        assert_eq!(selected(b"\xff", false, false), "no text");
    }
}
