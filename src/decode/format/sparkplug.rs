//! Sparkplug B 3.0: <https://sparkplug.eclipse.org/specification/>. A message is a list of metrics, and each is a document.
//!
//! - Only BIRTH messages say names and types of all metrics; later ones may have an alias in place of a name: see [`EdgeNodes`].
//! - A value is in whichever field is set. Its type is the metric's datatype, else that of the BIRTH, else that of the field.
//! - Signed integers travel as unsigned ones: -5 of 32 bits as 4294967291, of some libraries of 8 bits as 251.
//! - A metric's time is its own, else that of the message, else when the message arrived; a DEATH was made when its client
//!   connected, and is dated when it arrived.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::config::PayloadCompression;
use crate::core::edge_nodes::EdgeNodes;
use crate::core::reason::{Code, Reason};
use crate::decode::format::Documents;
use crate::decode::format::unpack::unpack;
use crate::decode::format::wire::{Field, Wire, fields};
use crate::decode::tape::{MAX_DEPTH, Tape, Value};
use crate::decode::time::Instant;
use crate::decode::value_reader::Result;

const NAME: &str = "Sparkplug B";
const COMPRESSED: &str = "SPBV1.0_COMPRESSED";

/// `spBv1.0/group/type/node[/device]`
#[derive(Debug, Clone, Copy)]
struct Topic<'a> {
    group: &'a str,
    kind: &'a str,
    node: &'a str,
    device: Option<&'a str>,
}

impl<'a> Topic<'a> {
    fn parse(topic: &'a str) -> Option<Topic<'a>> {
        let mut levels = topic.split('/').skip_while(|level| *level != "spBv1.0").skip(1);
        let topic = Topic {
            group: levels.next()?,
            kind: levels.next()?,
            node: levels.next()?,
            device: levels.next(),
        };
        levels.next().is_none().then_some(topic)
    }
}

/// State for reading a message.
pub struct Context<'c> {
    pub topic: &'c str,
    pub received_at: SystemTime,
    pub nodes: &'c EdgeNodes,
    pub max_bytes: usize,
}

/// A metric on the way to its document.
struct Metric<'a> {
    name: Option<Cow<'a, str>>,
    alias: Option<u64>,
    timestamp: Option<u64>,
    datatype: Option<u32>,
    is_historical: bool,
    is_null: bool,
    value: Option<Field<'a>>,
}

pub fn read(payload: &[u8], context: &Context<'_>) -> Result<Documents<'static>> {
    let topic = Topic::parse(context.topic).ok_or_else(|| {
        invalid("the topic is not spBv1.0/group/type/node or spBv1.0/group/type/node/device")
    })?;
    let mut message = fields(payload, NAME)?;
    let outer_timestamp = number(&message, 1);
    let unpacked;
    if text(&message, 4) == Some(COMPRESSED) {
        let body = bytes(&message, 5).ok_or_else(|| invalid("a compressed payload has no body"))?;
        unpacked = match unpack(body, PayloadCompression::Auto, context.max_bytes)? {
            // Java's Deflater may leave out the header of zlib.
            Cow::Borrowed(_) => return Err(invalid("a compressed payload is neither GZIP nor DEFLATE")),
            Cow::Owned(unpacked) => unpacked,
        };
        message = fields(&unpacked, NAME)?;
    }
    let node = format!("{}/{}", topic.group, topic.node);
    let device = topic.device.unwrap_or_default();
    let is_birth = topic.kind.ends_with("BIRTH");
    if topic.kind == "NBIRTH" {
        context.nodes.begin(&node);
    }
    let arrived = Instant::from_system(context.received_at);
    let message_time = match topic.kind.ends_with("DEATH") {
        true => None,
        false => number(&message, 1).or(outer_timestamp).map(millis),
    };
    let seq = number(&message, 3);
    let mut documents = Documents::default();
    for content in message.iter().filter(|field| field.number == 2).filter_map(|field| field.value.bytes()) {
        let mut metric = metric(content)?;
        match (&metric.name, metric.alias) {
            (Some(name), alias) if is_birth => {
                let datatype = metric.datatype.unwrap_or(0);
                context.nodes.learn(&node, device, name, alias, datatype);
            }
            (None, Some(alias)) => {
                let (name, datatype) = context.nodes.alias(&node, alias).ok_or_else(|| {
                    let message = format!("no BIRTH of the edge node {node} has named the alias {alias}");
                    Box::new(Reason::new(Code::AliasUnknown, message))
                })?;
                metric.name = Some(Cow::Owned(name));
                metric.datatype = metric.datatype.or(Some(datatype));
            }
            (Some(name), _) if metric.datatype.is_none() => {
                metric.datatype = context.nodes.datatype(&node, device, name);
            }
            _ => {}
        }
        let is_death = topic.kind.ends_with("DEATH");
        let own = metric.timestamp.filter(|_| !is_death).map(millis);
        let at = own.or(message_time).unwrap_or(arrived);
        documents.roots.push(write_metric(&metric, &topic, seq, at, &mut documents.tape)?);
    }
    Ok(documents)
}

fn millis(millis: u64) -> Instant {
    let nanos = (millis % 1000) as u32 * 1_000_000;
    Instant { seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX), nanos }
}

fn metric(content: &[u8]) -> Result<Metric<'_>> {
    let there = fields(content, NAME)?;
    Ok(Metric {
        name: text(&there, 1).map(Cow::Borrowed),
        alias: number(&there, 2),
        timestamp: number(&there, 3),
        datatype: number(&there, 4).map(|datatype| datatype as u32).filter(|datatype| *datatype != 0),
        is_historical: number(&there, 5) == Some(1),
        is_null: number(&there, 7) == Some(1),
        value: there.iter().rev().find(|field| (10..=19).contains(&field.number)).copied(),
    })
}

fn write_metric(
    metric: &Metric<'_>,
    topic: &Topic<'_>,
    seq: Option<u64>,
    at: Instant,
    tape: &mut Tape<'static>,
) -> Result<usize> {
    let value = if metric.is_null { Tape::of(Value::Null)? } else { value(metric, 0)? };
    let root = tape.begin_object()?;
    let mut put = |name: &'static str, value: Value<'static>| {
        tape.push(Value::Text(Cow::Borrowed(name)))?;
        tape.push(value)
    };
    let own = |text: &str| Value::Text(Cow::Owned(text.into()));
    let unsigned = |number: Option<u64>| number.map_or(Value::Null, Value::Unsigned);
    put("group", own(topic.group))?;
    put("node", own(topic.node))?;
    put("device", topic.device.map_or(Value::Null, own))?;
    put("type", own(topic.kind))?;
    put("seq", unsigned(seq))?;
    put("name", metric.name.as_deref().map_or(Value::Null, own))?;
    put("alias", unsigned(metric.alias))?;
    put("timestamp", Value::Time(at))?;
    put("datatype", unsigned(metric.datatype.map(u64::from)))?;
    put("is_null", Value::Bool(metric.is_null))?;
    put("is_historical", Value::Bool(metric.is_historical))?;
    let typed = match value.value(0) {
        Value::Integer(_) | Value::Unsigned(_) => "int_value",
        Value::Float(_) => "float_value",
        Value::Bool(_) => "bool_value",
        Value::Text(_) => "string_value",
        _ => "",
    };
    if !typed.is_empty() {
        put(typed, value.value(0).clone())?;
    }
    tape.push(Value::Text(Cow::Borrowed("value")))?;
    tape.append(value)?;
    tape.end(root);
    Ok(root)
}

/// The value of a metric, by its type.
fn value(metric: &Metric<'_>, depth: usize) -> Result<Tape<'static>> {
    let Some(Field { number, value }) = metric.value else { return Tape::of(Value::Null) };
    if let (17, Wire::Bytes(content)) = (number, value) {
        return data_set(content);
    }
    if let (18, Wire::Bytes(content)) = (number, value) {
        return template(content, depth);
    }
    Tape::of(scalar(number - 9, value, metric.datatype)?)
}

/// A scalar by the place of its field among `int_value`, `long_value`, `float_value`, `double_value`, `boolean_value`,
/// `string_value`, `bytes_value`, from 1 on.
fn scalar(place: u32, value: Wire<'_>, datatype: Option<u32>) -> Result<Value<'static>> {
    Ok(match (place, value) {
        (1 | 2, value) => {
            let number = value.number().ok_or_else(|| invalid("an integer has the wire type of another"))?;
            match datatype {
                Some(1) => Value::Integer((number as i8).into()),
                Some(2) => Value::Integer((number as i16).into()),
                Some(3) => Value::Integer((number as i32).into()),
                Some(4) => Value::Integer(number as i64),
                Some(5) => Value::Unsigned((number as u8).into()),
                Some(6) => Value::Unsigned((number as u16).into()),
                Some(9 | 10) => Value::Float(number as f64),
                Some(11) => Value::Bool(number != 0),
                Some(13) => Value::Time(millis(number)),
                _ => Value::Unsigned(number),
            }
        }
        (3, Wire::Fixed32(bits)) => {
            let float = f32::from_bits(bits);
            Value::Float(float.to_string().parse().unwrap_or(f64::from(float)))
        }
        (4, Wire::Fixed64(bits)) => Value::Float(f64::from_bits(bits)),
        (5, Wire::Varint(flag)) => Value::Bool(flag != 0),
        (6, Wire::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(Cow::Owned(text.into())),
            Err(_) => Value::Bytes(Cow::Owned(bytes.into())),
        },
        (7, Wire::Bytes(bytes)) => Value::Bytes(Cow::Owned(bytes.into())),
        _ => Value::Null,
    })
}

/// A list with an object for each of its rows.
fn data_set(content: &[u8]) -> Result<Tape<'static>> {
    let there = fields(content, NAME)?;
    let names: Vec<&str> =
        there.iter().filter(|field| field.number == 2).filter_map(|field| field.value.text()).collect();
    let mut types = Vec::new();
    for field in there.iter().filter(|field| field.number == 3) {
        match field.value {
            Wire::Bytes(packed) => {
                for number in crate::decode::format::wire::packed(packed, 0, NAME)? {
                    types.push(number.number().unwrap_or(0) as u32);
                }
            }
            value => types.push(value.number().unwrap_or(0) as u32),
        }
    }
    let mut tape = Tape::default();
    let list = tape.begin_list()?;
    for row in there.iter().filter(|field| field.number == 4).filter_map(|field| field.value.bytes()) {
        let object = tape.begin_object()?;
        let cells = fields(row, NAME)?;
        let cells = cells.iter().filter(|field| field.number == 1).filter_map(|field| field.value.bytes());
        for (place, (name, cell)) in names.iter().zip(cells).enumerate() {
            tape.push(Value::Text(Cow::Owned(name.to_string())))?;
            let cell = fields(cell, NAME)?;
            tape.push(match cell.last() {
                Some(field) => scalar(field.number, field.value, types.get(place).copied())?,
                None => Value::Null,
            })?;
        }
        tape.end(object);
    }
    tape.end(list);
    Ok(tape)
}

/// An object with its metrics by name.
fn template(content: &[u8], depth: usize) -> Result<Tape<'static>> {
    if depth > MAX_DEPTH {
        return Err(invalid("it is nested more than 128 deep"));
    }
    let mut tape = Tape::default();
    let object = tape.begin_object()?;
    let there = fields(content, NAME)?;
    for content in there.iter().filter(|field| field.number == 2).filter_map(|field| field.value.bytes()) {
        let metric = metric(content)?;
        let Some(name) = &metric.name else { continue };
        tape.push(Value::Text(Cow::Owned(name.to_string())))?;
        tape.append(if metric.is_null { Tape::of(Value::Null)? } else { value(&metric, depth + 1)? })?;
    }
    tape.end(object);
    Ok(tape)
}

fn find<'a>(fields: &[Field<'a>], number: u32) -> Option<Wire<'a>> {
    fields.iter().rev().find(|field| field.number == number).map(|field| field.value)
}

fn number(fields: &[Field<'_>], at: u32) -> Option<u64> {
    find(fields, at)?.number()
}

fn text<'a>(fields: &[Field<'a>], at: u32) -> Option<&'a str> {
    find(fields, at)?.text()
}

fn bytes<'a>(fields: &[Field<'a>], at: u32) -> Option<&'a [u8]> {
    find(fields, at)?.bytes()
}

#[cold]
fn invalid(what: &str) -> Box<Reason> {
    Box::new(Reason::new(Code::PayloadInvalid, format!("no {NAME}: {what}")))
}
