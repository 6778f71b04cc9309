//! Topic aliases of MQTT 5: numbers that the broker sends in place of topics it has sent before (3.3.2.3.4).
//!
//! They hold for one connection. What they take is bounded by `topicAliasMaximum` topics, each of 65,535 bytes at most.

use crate::mqtt::protocol::reason;
use crate::mqtt::session::SessionError;

#[derive(Debug)]
pub struct Aliases {
    /// How many we let a broker have, which is all it can make us remember.
    most: u16,
    /// By number, from 1; an empty topic was not given yet.
    topics: Vec<Vec<u8>>,
}

impl Aliases {
    pub fn new(most: u16) -> Aliases {
        Aliases { most, topics: Vec::new() }
    }

    /// A new connection begins: [MQTT-3.3.2-7].
    pub fn clear(&mut self) {
        self.topics = Vec::new();
    }

    /// Checks the alias of a PUBLISH with this topic, and remembers what it stands for.
    pub fn learn(&mut self, topic: &[u8], alias: u16) -> Result<(), SessionError> {
        if alias == 0 || alias > self.most {
            return Err(SessionError::illegal(
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
