//! A message on its way through the router, and what becomes of it.

use crate::core::clock::ReceiveTime;
use crate::mqtt::Publish;

/// Counts of one read.
#[derive(Default)]
pub(super) struct ReadStats {
    pub(super) received: u64,
    pub(super) skipped: u64,
    pub(super) dropped: u64,
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

/// A message that came, as the router needs it.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) publish: &'a Publish<'a>,
    pub(super) sequence: Option<u64>,
    pub(super) now: ReceiveTime,
    pub(super) client_id: &'a str,
}

/// The result of a message in a route.
pub(super) enum Taken {
    /// The open batch has its rows.
    Rows,
    /// `where` excludes it.
    Dropped,
}
