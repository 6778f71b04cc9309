//! Sparkplug B 3.0: <https://sparkplug.eclipse.org/specification/>. A message is a list of metrics, and each is a document.
//!
//! - Only BIRTH messages say names and types of all metrics; later ones may have an alias in place of a name: see [`EdgeNodes`].
//! - A value is in whichever field is set. Its type is the metric's datatype, else that of the BIRTH, else that of the field.
//! - Signed integers travel as unsigned ones: -5 of 32 bits as 4294967291, of some libraries of 8 bits as 251.
//! - Where messages are observed, a node that has to publish its BIRTH again is noted: see [`crate::core::rebirths`].
//! - A DataSet with a column `timestamps` is a row for each of its rows, which are values that an edge node has kept; any other is
//!   a list.
//! - A metric's time is its own, else that of the message, else when the message arrived; a DEATH was made when its client
//!   connected, and is dated when it arrived.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::config::PayloadCompression;
use crate::core::edge_nodes::{EdgeNodes, NodeMessage};
use crate::core::reason::{Code, Reason};
use crate::core::varint;
use crate::decode::format::Documents;
use crate::decode::format::bytes::invalid_at;
use crate::decode::format::unpack::unpack;
use crate::decode::format::wire::{Field, Wire, fields, packed};
use crate::decode::tape::{MAX_DEPTH, Tape, Value};
use crate::decode::time::Instant;
use crate::decode::value_reader::Result;

const NAME: &str = "Sparkplug B";
/// The field of a DataSet in a metric.
const DATA_SET: u32 = 17;
/// The column with the times of rows.
const TIMESTAMPS: &str = "timestamps";
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

    /// The topic of commands to the node; `topic` is one of its messages.
    fn of_commands(&self, topic: &str) -> String {
        let Topic { group, node, .. } = self;
        let before = topic.split_once("spBv1.0").map_or("", |(before, _)| before);
        format!("{before}spBv1.0/{group}/NCMD/{node}")
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
        invalid_topic("the topic is not spBv1.0/group/type/node or spBv1.0/group/type/node/device")
    })?;
    let mut message = fields(payload, 0, NAME)?;
    let outer_timestamp = number(&message, 1);
    let unpacked;
    if text(&message, 4) == Some(COMPRESSED) {
        let body =
            bytes(&message, 5).ok_or_else(|| invalid("a compressed payload has no body", payload.len()))?;
        unpacked = match unpack(body, PayloadCompression::Auto, context.max_bytes)? {
            // Java's Deflater may leave out the header of zlib.
            Cow::Borrowed(_) => {
                let at = find(&message, 5).map_or(0, |field| field.at);
                return Err(invalid("a compressed payload is neither GZIP nor DEFLATE", at));
            }
            Cow::Owned(unpacked) => unpacked,
        };
        message = fields(&unpacked, 0, NAME)?;
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
    let observed = NodeMessage {
        kind: topic.kind,
        node: &node,
        device,
        sequence: seq,
        command_topic: &|| topic.of_commands(context.topic),
    };
    context.nodes.observe(&observed);
    let mut documents = Documents::default();
    for content in parts(&message, 2) {
        let mut metric = metric(content)?;
        match (&metric.name, metric.alias) {
            (Some(name), alias) if is_birth => {
                let datatype = metric.datatype.unwrap_or(0);
                context.nodes.learn(&node, device, name, alias, datatype);
            }
            (None, Some(alias)) => {
                let (name, datatype) = context.nodes.alias(&node, alias).ok_or_else(|| {
                    let message = format!("no BIRTH of the edge node {node} has named the alias {alias}");
                    context.nodes.note(&observed, &message);
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
        // Values that an edge node has kept, each with its time.
        if let Some(content) = metric.value.filter(|field| field.number == DATA_SET && !metric.is_null)
            && let Some(rows) = DataSet::read(content)?.dated_rows()?
        {
            for (at, row) in rows {
                documents.roots.push(write_metric(&metric, &topic, seq, at, row, &mut documents.tape)?);
            }
            continue;
        }
        let own = if metric.is_null { Tape::of(Value::Null)? } else { value(&metric, 0)? };
        documents.roots.push(write_metric(&metric, &topic, seq, at, own, &mut documents.tape)?);
    }
    Ok(documents)
}

fn millis(millis: u64) -> Instant {
    let nanos = (millis % 1000) as u32 * 1_000_000;
    Instant { seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX), nanos }
}

fn metric<'a>(content: Field<'a>) -> Result<Metric<'a>> {
    let there = content.fields(NAME)?;
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
    value: Tape<'static>,
    tape: &mut Tape<'static>,
) -> Result<usize> {
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
    let Some(field) = metric.value else { return Tape::of(Value::Null) };
    match (field.number, field.value) {
        (DATA_SET, Wire::Bytes(_)) => DataSet::read(field)?.list(),
        (18, Wire::Bytes(_)) => template(field, depth),
        (number, _) => Tape::of(scalar(number - 9, field, metric.datatype)?),
    }
}

/// A scalar by the place of its field among `int_value`, `long_value`, `float_value`, `double_value`, `boolean_value`,
/// `string_value`, `bytes_value`, from 1 on.
fn scalar(place: u32, field: Field<'_>, datatype: Option<u32>) -> Result<Value<'static>> {
    Ok(match (place, field.value) {
        (1 | 2, value) => {
            let number =
                value.number().ok_or_else(|| invalid("an integer has the wire type of another", field.at))?;
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

/// A table of values.
struct DataSet<'a> {
    names: Vec<&'a str>,
    types: Vec<u32>,
    rows: Vec<Field<'a>>,
}

impl<'a> DataSet<'a> {
    fn read(content: Field<'a>) -> Result<DataSet<'a>> {
        let there = content.fields(NAME)?;
        let names = parts(&there, 2).filter_map(|field| field.value.text()).collect();
        let mut types = Vec::new();
        for field in there.iter().filter(|field| field.number == 3) {
            match field.value {
                Wire::Bytes(_) => {
                    for number in packed(*field, 0, NAME)? {
                        types.push(number.value.number().unwrap_or(0) as u32);
                    }
                }
                value => types.push(value.number().unwrap_or(0) as u32),
            }
        }
        Ok(DataSet { names, types, rows: parts(&there, 4).collect() })
    }

    /// A list with an object for each row.
    fn list(&self) -> Result<Tape<'static>> {
        let mut tape = Tape::default();
        let list = tape.begin_list()?;
        for row in &self.rows {
            self.write_row(*row, None, &mut tape)?;
        }
        tape.end(list);
        Ok(tape)
    }

    /// The rows with their times, if it has any: an object of the other columns each.
    fn dated_rows(&self) -> Result<Option<Vec<(Instant, Tape<'static>)>>> {
        let Some(dated) = self.names.iter().position(|name| *name == TIMESTAMPS) else { return Ok(None) };
        let row = |row: &Field<'a>| {
            let mut tape = Tape::default();
            let at = self.write_row(*row, Some(dated), &mut tape)?;
            let at = at.ok_or_else(|| invalid("a row of a DataSet has no time", row.at))?;
            Ok((at, tape))
        };
        self.rows.iter().map(row).collect::<Result<_>>().map(Some)
    }

    /// Writes a row, without the column with its time, and gives that.
    fn write_row(
        &self,
        row: Field<'a>,
        dated: Option<usize>,
        tape: &mut Tape<'static>,
    ) -> Result<Option<Instant>> {
        let object = tape.begin_object()?;
        let mut at = None;
        let cells = row.fields(NAME)?;
        for (place, (name, cell)) in self.names.iter().zip(parts(&cells, 1)).enumerate() {
            let value = cell.fields(NAME)?.last().copied();
            if dated == Some(place) {
                at = value.and_then(|field| field.value.number()).map(millis);
                continue;
            }
            tape.push(Value::Text(Cow::Owned(name.to_string())))?;
            tape.push(match value {
                Some(field) => scalar(field.number, field, self.types.get(place).copied())?,
                None => Value::Null,
            })?;
        }
        tape.end(object);
        Ok(at)
    }
}

/// An object with its metrics by name.
fn template(content: Field<'_>, depth: usize) -> Result<Tape<'static>> {
    if depth > MAX_DEPTH {
        return Err(invalid("it is nested more than 128 deep", content.at));
    }
    let mut tape = Tape::default();
    let object = tape.begin_object()?;
    let there = content.fields(NAME)?;
    for content in parts(&there, 2) {
        let metric = metric(content)?;
        let Some(name) = &metric.name else { continue };
        tape.push(Value::Text(Cow::Owned(name.to_string())))?;
        tape.append(if metric.is_null { Tape::of(Value::Null)? } else { value(&metric, depth + 1)? })?;
    }
    tape.end(object);
    Ok(tape)
}

fn find<'a>(fields: &[Field<'a>], number: u32) -> Option<Field<'a>> {
    fields.iter().rev().find(|field| field.number == number).copied()
}

/// The messages in the fields of a number.
fn parts<'f, 'a>(fields: &'f [Field<'a>], number: u32) -> impl Iterator<Item = Field<'a>> + 'f {
    fields.iter().filter(move |field| field.number == number && field.value.bytes().is_some()).copied()
}

fn number(fields: &[Field<'_>], at: u32) -> Option<u64> {
    find(fields, at)?.value.number()
}

fn text<'a>(fields: &[Field<'a>], at: u32) -> Option<&'a str> {
    find(fields, at)?.value.text()
}

fn bytes<'a>(fields: &[Field<'a>], at: u32) -> Option<&'a [u8]> {
    find(fields, at)?.value.bytes()
}

#[cold]
fn invalid(what: &str, at: usize) -> Box<Reason> {
    invalid_at(NAME, what, at)
}

#[cold]
fn invalid_topic(what: &str) -> Box<Reason> {
    Box::new(Reason::new(Code::PayloadInvalid, format!("no {NAME}: {what}")))
}

/// The command that has an edge node publish its BIRTH messages again: 5.11.1 of the specification. It has no sequence number.
pub fn rebirth_command(at: SystemTime) -> Vec<u8> {
    const NAME: &[u8] = b"Node Control/Rebirth";
    const BOOLEAN: u64 = 11;
    let millis = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    // The tag of a field is its number and its wire type.
    let number = |out: &mut Vec<u8>, field: u64, value: u64| {
        varint::write(out, field << 3);
        varint::write(out, value);
    };
    let bytes = |out: &mut Vec<u8>, field: u64, content: &[u8]| {
        varint::write(out, field << 3 | 2);
        varint::write(out, content.len() as u64);
        out.extend_from_slice(content);
    };
    let mut metric = Vec::new();
    bytes(&mut metric, 1, NAME);
    number(&mut metric, 3, millis);
    number(&mut metric, 4, BOOLEAN);
    number(&mut metric, 14, 1);
    let mut payload = Vec::new();
    number(&mut payload, 1, millis);
    bytes(&mut payload, 2, &metric);
    payload
}
