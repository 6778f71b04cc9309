//! The MQTT session without sockets: it reads the bytes of a broker, and the results are compared.
//!
//! rumqttc's codec encodes most packets of the broker and decodes ours: neither is checked against our
//! own reading of the specification alone.

mod acknowledgements;
mod aliases;
mod answers;
mod broker;
mod changes;
mod client;
mod exactly_once;
mod hostile;
mod limits;
mod lost_acknowledgements;
mod mixed_pubrels;
#[path = "../spool/random.rs"]
mod random;
mod redeliveries;
mod requests;
mod streams;
mod time;

use proptest::prelude::ProptestConfig;

/// Failures are shown and not kept in files.
fn no_files(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
