//! Topic aliases of MQTT 5: numbers that the broker sends in place of topics it has sent before (3.3.2.3.4).
//!
//! They hold for one connection. Their memory is bounded by `topicAliasMaximum` topics of at max 65,535 bytes each.

use crate::mqtt::protocol::publish::Fault;

#[derive(Debug)]
pub struct Aliases {
    /// How many aliases the broker may use.
    max: u16,
    /// The topic of alias 1, 2, …; an empty topic is not set yet.
    topics: Vec<Vec<u8>>,
    /// Bytes of the topics.
    bytes: usize,
}

impl Aliases {
    pub fn new(max: u16) -> Aliases {
        Aliases { max, topics: Vec::new(), bytes: 0 }
    }

    /// A new connection begins: [MQTT-3.3.2-7].
    pub fn clear(&mut self) {
        (self.topics, self.bytes) = (Vec::new(), 0);
    }

    /// Checks the alias of a PUBLISH with this topic, and stores its topic.
    pub fn learn(&mut self, topic: &[u8], alias: u16) -> Option<&'static Fault> {
        if alias == 0 || alias > self.max {
            return Some(Fault::ALIAS_OUT_OF_RANGE);
        }
        let at = alias as usize - 1;
        if !topic.is_empty() {
            if at >= self.topics.len() {
                self.topics.resize(at + 1, Vec::new());
            }
            let known = &mut self.topics[at];
            self.bytes -= known.capacity();
            if known.capacity() > 2 * topic.len() {
                *known = Vec::new();
            }
            known.clear();
            known.extend_from_slice(topic);
            self.bytes += known.capacity();
        } else if self.topic(alias).is_empty() {
            return Some(Fault::ALIAS_UNKNOWN);
        }
        None
    }

    /// Memory of the topics.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.topics.capacity() * size_of::<Vec<u8>>()
    }

    /// The topic that an alias stands for; empty for an unknown one.
    pub fn topic(&self, alias: u16) -> &[u8] {
        let at = usize::from(alias).checked_sub(1);
        at.and_then(|at| self.topics.get(at)).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_count_as_what_they_take() {
        let mut aliases = Aliases::new(10);
        assert_eq!(aliases.memory_bytes(), 0);
        assert_eq!(aliases.learn(&[b't'; 60_000], 1), None);
        assert_eq!(aliases.learn(&[b'u'; 60_000], 3), None);
        assert!((120_000..121_000).contains(&aliases.memory_bytes()), "{}", aliases.memory_bytes());
        assert_eq!(aliases.learn(b"short", 3), None);
        assert_eq!((aliases.topic(3), aliases.topic(1).len()), (&b"short"[..], 60_000));
        assert!((60_000..61_000).contains(&aliases.memory_bytes()), "{}", aliases.memory_bytes());
        aliases.clear();
        assert_eq!(aliases.memory_bytes(), 0);
    }
}
