//! Payload formats: each reads the bytes of a payload value by value. JSON has a reader of its own; all others, and JSON where a
//! route wants more of it than a walk gives, are read onto a [`Tape`].

pub mod bytes;
pub mod cbor;
mod csv;
mod descriptor;
pub mod json;
mod msgpack;
mod protobuf;
mod sparkplug;
mod text;
pub mod unpack;
mod wire;

pub use descriptor::Descriptors;
pub use sparkplug::rebirth_command;

use crate::config::{Format, Nan};
use crate::core::edge_nodes::EdgeNodes;
use crate::decode::Message;
use crate::decode::tape::{self, Tape};
use crate::decode::value_reader::Result;

/// A payload's documents: one, but for JSON and lines.
#[derive(Debug, Default)]
pub struct Documents<'a> {
    pub tape: Tape<'a>,
    /// Where they begin.
    pub roots: Vec<usize>,
}

impl<'a> Documents<'a> {
    fn one(tape: Tape<'a>) -> Documents<'a> {
        Documents { tape, roots: vec![0] }
    }
}

/// How payloads are read.
#[derive(Debug)]
pub struct FormatReader {
    pub format: Format,
    pub nan: Nan,
    /// For Protocol Buffers, with the place of the message.
    pub descriptors: Option<(Descriptors, usize)>,
    pub edge_nodes: EdgeNodes,
    /// Whether fields that a descriptor has not are read, to be refused.
    pub keeps_unknown: bool,
    pub max_bytes: usize,
    /// The most that the values of a payload may take.
    pub max_decoded_bytes: usize,
}

impl FormatReader {
    pub fn read<'a>(&self, message: &Message<'a>) -> Result<Documents<'a>> {
        tape::limit_bytes(self.max_decoded_bytes);
        if let Some((descriptors, place)) = &self.descriptors {
            return protobuf::read(message.payload, descriptors, *place, self.keeps_unknown)
                .map(Documents::one);
        }
        if self.format == Format::Sparkplug {
            let context = sparkplug::Context {
                topic: message.topic,
                received_at: message.received_at,
                nodes: &self.edge_nodes,
                max_bytes: self.max_bytes,
            };
            return sparkplug::read(message.payload, &context);
        }
        read(&self.format, self.nan, message.payload)
    }
}

fn read<'a>(format: &Format, nan: Nan, payload: &'a [u8]) -> Result<Documents<'a>> {
    Ok(match format {
        Format::Json => return json::tape::read(payload, nan),
        Format::Text => Documents::one(text::read(payload)?),
        Format::Csv(csv) => return csv::read(payload, csv),
        Format::MessagePack => Documents::one(msgpack::read(payload)?),
        Format::Cbor => Documents::one(cbor::read(payload)?),
        // These need more than the payload.
        Format::Protobuf(_) | Format::Sparkplug => Documents::default(),
        // These are read one by one.
        Format::Rows => Documents::default(),
    })
}
