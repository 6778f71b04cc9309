//! A message that cannot become rows, with the reason.

use std::time::SystemTime;

use crate::core::reason::Reason;
use crate::core::topic_tables::route_place;

#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub received_at: SystemTime,
    /// The place in `routes`; `None` where no route takes the topic.
    pub route: Option<usize>,
    /// As bytes: a topic that is not UTF-8 is itself a reason.
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub reason: Reason,
}

impl DeadLetter {
    /// As it is written down: -1 where no route takes the topic.
    pub fn route_number(&self) -> i32 {
        self.route.map_or(-1, |route| route_place(route) as i32)
    }
}
