//! Topic aliases of MQTT 5: numbers that the broker sends in place of topics it has sent before (3.3.2.3.4).
//!
//! They hold for one connection. Their memory is bounded by `topicAliasMaximum` topics of at max 65,535 bytes each.

use crate::mqtt::protocol::reason;
use crate::mqtt::session::SessionError;

#[derive(Debug)]
pub struct Aliases {
    /// How many aliases the broker may use.
    max: u16,
    /// The topic of alias 1, 2, …; an empty topic is not set yet.
    topics: Vec<Vec<u8>>,
}

impl Aliases {
    pub fn new(max: u16) -> Aliases {
        Aliases { max, topics: Vec::new() }
    }

    /// A new connection begins: [MQTT-3.3.2-7].
    pub fn clear(&mut self) {
        self.topics = Vec::new();
    }

    /// Checks the alias of a PUBLISH with this topic, and stores its topic.
    pub fn learn(&mut self, topic: &[u8], alias: u16) -> Result<(), SessionError> {
        if alias == 0 || alias > self.max {
            return Err(SessionError::violation(
                "a topic alias that was not allowed",
                reason::TOPIC_ALIAS_INVALID,
            ));
        }
        let at = alias as usize - 1;
        if !topic.is_empty() {
            if at >= self.topics.len() {
                self.topics.resize(at + 1, Vec::new());
            }
            self.topics[at].clear();
            self.topics[at].extend_from_slice(topic);
        } else if self.topic(alias).is_empty() {
            return Err(SessionError::protocol("a topic alias that stands for no topic"));
        }
        Ok(())
    }

    pub fn topic(&self, alias: u16) -> &[u8] {
        self.topics.get(alias as usize - 1).map_or(&[], Vec::as_slice)
    }
}
