//! Selects the routes of a message: the first whose filter matches its topic, and as long as one has
//! `continue`, the next that does.
//!
//! `check` asks the same for the messages of a sample. The decoder of a route then decides by `where`
//! whether the message is dropped.

use crate::config::Route;
use crate::core::topic_filter::Captures;

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
