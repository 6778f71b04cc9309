//! The rows of a payload as JSON, before any table is known: `proposeTable` derives columns from them.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::config::{PayloadCompression, Route};
use crate::core::error::Error;
use crate::core::mqtt_property::Properties;
use crate::core::topic_filter::Captures;
use crate::decode::Message;
use crate::decode::documents::DocumentPlan;
use crate::decode::format::{Documents, unpack};
use crate::decode::lookup::{self, RowPlace};
use crate::decode::tape::{Tape, Value, write_json};
use crate::decode::value_reader::Result;

/// Reads payloads as a route does, by its format, compression and rows. BIRTH messages of Sparkplug are remembered for the
/// payloads after them.
pub struct SampleRows {
    plan: DocumentPlan,
    compression: PayloadCompression,
    max_bytes: usize,
}

/// A document, the place of its row, and the row's items of lists side by side.
type Row = (usize, RowPlace, Vec<usize>);

impl SampleRows {
    /// `path` is that of the route, for errors.
    pub fn new(path: &str, route: &Route) -> std::result::Result<SampleRows, Error> {
        Ok(SampleRows {
            plan: DocumentPlan::without_columns(path, route)?,
            compression: route.compression,
            max_bytes: route.max_payload_bytes,
        })
    }

    /// One JSON object per row: the fields of its item, and those of the documents around it that have another name. An item
    /// that is not an object is the field `value`; the key of a member that is a row is the field `key`.
    pub fn read(&self, topic: &str, payload: &[u8]) -> Result<Vec<String>> {
        self.read_without(topic, payload, &|_| false)
    }

    /// The same without the fields that are known; rows without others are left out.
    pub fn read_without(
        &self,
        topic: &str,
        payload: &[u8],
        is_known: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let payload = match self.compression {
            PayloadCompression::None => Cow::Borrowed(payload),
            compression => unpack::unpack(payload, compression, self.max_bytes)?,
        };
        let message = Message {
            topic,
            captures: &Captures::default(),
            payload: &payload,
            qos: 0,
            retain: false,
            received_at: SystemTime::now(),
            client_id: "",
            properties: Properties::checked(&[]),
        };
        let (tape, rows) = self.rows(&message)?;
        let object = |(root, row, zipped): &Row| self.object(&tape, *root, row, zipped, is_known);
        Ok(rows.iter().filter_map(object).collect())
    }

    /// The rows on the tape of a payload, each with its document, and with its items of lists side by side.
    fn rows<'a>(&self, message: &Message<'a>) -> Result<(Tape<'a>, Vec<Row>)> {
        let Documents { tape, roots } = self.plan.reader.read(message)?;
        let documents = roots.iter().flat_map(|root| match tape.value(*root) {
            Value::List { .. } if !self.plan.takes_lists() => tape.items(*root).collect(),
            _ => vec![*root],
        });
        let mut rows = Vec::new();
        for root in documents {
            let document = RowPlace { item: root, ..RowPlace::default() };
            if !self.plan.zip.is_empty() {
                let lists = lookup::side_by_side(&tape, root, &self.plan.zip)?;
                let zipped = |index: usize| lists.iter().map(|list| list[index]).collect();
                rows.extend((0..lists[0].len()).map(|index| (root, document.clone(), zipped(index))));
            } else if let Some(path) = &self.plan.rows {
                let places = lookup::rows(&tape, root, &path.segments);
                let places = places.ok_or_else(|| lookup::no_list(false, "the list"))?;
                rows.extend(places.into_iter().map(|place| (root, place, Vec::new())));
            } else {
                rows.push((root, document, Vec::new()));
            }
        }
        Ok((tape, rows))
    }

    /// `None`: all of its fields are known.
    fn object(
        &self,
        tape: &Tape<'_>,
        root: usize,
        row: &RowPlace,
        zipped: &[usize],
        is_known: &dyn Fn(&str) -> bool,
    ) -> Option<String> {
        let mut fields: Vec<(Cow<'_, str>, usize)> = Vec::new();
        let mut add = |name: Cow<'_, str>, value: usize| {
            if !fields.iter().any(|(other, _)| *other == name) {
                fields.push((Cow::Owned(name.into_owned()), value));
            }
        };
        for ((name, _), value) in self.plan.zip.iter().zip(zipped) {
            add(Cow::Borrowed(name), *value);
        }
        if !matches!(tape.value(row.item), Value::Object { .. }) {
            add(Cow::Borrowed("value"), row.item);
        }
        // The fields of the item go before those of the objects around it, from the inside out.
        for object in [row.item].into_iter().chain(row.around.iter().rev().copied()).chain([root]) {
            if !matches!(tape.value(object), Value::Object { .. }) {
                continue;
            }
            for key in tape.keys(object) {
                let value = key + 1;
                let leads_to_row = object != row.item && (value..tape.behind(value)).contains(&row.item);
                let is_zipped = !zipped.is_empty()
                    && zipped.iter().any(|item| (value..tape.behind(value)).contains(item));
                if !leads_to_row && !is_zipped {
                    add(Cow::Borrowed(tape.text(key).unwrap_or_default()), value);
                }
            }
        }
        let mut json = String::from("{");
        let key = row.key.map(|key| ("key".into(), key));
        let wanted: Vec<_> = key.into_iter().chain(fields).collect();
        let has_fields = !wanted.is_empty();
        let wanted: Vec<_> = wanted.into_iter().filter(|(name, _)| !is_known(name)).collect();
        if has_fields && wanted.is_empty() {
            return None;
        }
        for (place, (name, value)) in wanted.into_iter().enumerate() {
            if place > 0 {
                json.push(',');
            }
            json.push_str(&serde_json::Value::from(&*name).to_string());
            json.push(':');
            write_json(tape, value, &mut json);
        }
        json.push('}');
        Some(json)
    }
}
