//! How many PUBRECs may wait for their PUBREL at a time.
//!
//! aedes 1.2.0 mixes the PUBRELs of a persistent session up where two PUBRECs are on their way: the first message is never
//! released, or is delivered again after the next reconnect without DUP. Nothing in MQTT 3.1.1 distinguishes such a broker from
//! others, so PUBRECs leave one at a time until two that left together were answered in their order [MQTT-4.6.0-4]. That pair
//! does no harm: aedes answers it with two PUBRELs of the second message, whose PUBCOMPs remove both from its queue.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PubrecPacing {
    /// Any number: the session ends with the connection, or it is of MQTT 5.
    #[default]
    Free,
    /// Any number: the broker keeps the order.
    Proved,
    /// One at a time, until two can leave together.
    Unproved,
    /// The second of the two leaves next.
    Pair { first: u16, second: u16 },
    /// Both have left.
    Probing { first: u16, second: u16 },
    /// The first was released.
    HalfProved { second: u16 },
    /// One at a time: the broker mixes them up.
    OneAtATime,
}

impl PubrecPacing {
    /// Whether the PUBREC of this message may leave while `outstanding` others wait for their PUBREL. `next` is the message
    /// of QoS 2 behind it whose PUBREC could leave with it.
    pub fn may_leave(&mut self, packet_id: u16, outstanding: usize, next: Option<u16>) -> bool {
        match *self {
            PubrecPacing::Free | PubrecPacing::Proved => true,
            PubrecPacing::Unproved => {
                if outstanding == 0
                    && let Some(second) = next
                {
                    *self = PubrecPacing::Pair { first: packet_id, second };
                }
                outstanding == 0
            }
            PubrecPacing::Pair { first, second } => {
                *self = PubrecPacing::Probing { first, second };
                true
            }
            PubrecPacing::Probing { .. } | PubrecPacing::HalfProved { .. } => false,
            PubrecPacing::OneAtATime => outstanding == 0,
        }
    }

    /// A PUBREL has come. Returns the message that will never be released, if this shows that the broker mixes them up.
    pub fn released(&mut self, packet_id: u16) -> Option<u16> {
        match *self {
            PubrecPacing::Probing { first, second } if packet_id == first => {
                *self = PubrecPacing::HalfProved { second };
            }
            PubrecPacing::Probing { first, second } if packet_id == second => {
                *self = PubrecPacing::OneAtATime;
                return Some(first);
            }
            PubrecPacing::HalfProved { second } if packet_id == second => *self = PubrecPacing::Proved,
            _ => {}
        }
        None
    }

    pub fn is_free(self) -> bool {
        matches!(self, PubrecPacing::Free | PubrecPacing::Proved)
    }

    pub fn mixes(self) -> bool {
        self == PubrecPacing::OneAtATime
    }

    /// The connection has ended. Returns the two messages whose answer is unknown.
    pub fn interrupt(&mut self) -> Option<(u16, u16)> {
        let pair = match *self {
            PubrecPacing::Pair { first, second } | PubrecPacing::Probing { first, second } => {
                Some((first, second))
            }
            PubrecPacing::HalfProved { .. } => None,
            PubrecPacing::Free | PubrecPacing::Proved | PubrecPacing::Unproved | PubrecPacing::OneAtATime => {
                return None;
            }
        };
        *self = PubrecPacing::Unproved;
        pair
    }
}
