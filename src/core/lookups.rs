//! Maps that a program sets while it runs. Columns are filled from them by a key of each message:
//! `{ lookup: 'tenants', key: 'device_id', field: 'tenant' }`.
//!
//! A map is replaced completely: a decoder compares one number for each message, and takes the new map when it differs.
//! It keeps the fields of its entries that columns ask for, as JSON texts, so that a column takes them as it takes
//! fields of a payload.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use foldhash::fast::RandomState;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::core::error::{Error, Result};
use crate::core::lock::lock;
use crate::core::memory_budget::{MemoryBudget, MemoryReservation};

/// All maps together may take this part of the ceiling.
const SHARE: usize = 4;

/// Beside its bytes a key costs an allocation.
const ALLOCATION_BYTES: usize = 16;

/// The lookups that columns of a configuration name.
#[derive(Debug, Default, Clone)]
pub struct Lookups(Arc<Mutex<Vec<Arc<Lookup>>>>);

/// One of them: the map that it has now.
#[derive(Debug)]
pub struct Lookup {
    name: String,
    /// The fields that columns ask for; `None` is the value of an entry itself.
    fields: Mutex<Vec<Option<String>>>,
    map: Mutex<Arc<LookupMap>>,
    /// How often it was set.
    generation: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
pub struct LookupMap {
    places: HashMap<Box<Key>, u32, RandomState>,
    /// As many for each entry.
    fields: usize,
    /// One for each field of each entry.
    values: Vec<ValuePlace>,
    /// JSON, each value with a blank behind it.
    texts: Vec<u8>,
    /// The fields that no entry has.
    absent: Vec<String>,
    /// The memory that it takes.
    bytes: usize,
    memory: OnceLock<MemoryReservation>,
}

/// A key, which is hashed without its length: that costs as much as a short key itself.
#[derive(Debug, PartialEq, Eq)]
#[repr(transparent)]
struct Key([u8]);

impl Hash for Key {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl Key {
    #[inline(always)]
    fn of(bytes: &[u8]) -> &Key {
        // SAFETY: `Key` is a transparent [u8].
        unsafe { &*(std::ptr::from_ref(bytes) as *const Key) }
    }

    fn boxed(bytes: &[u8]) -> Box<Key> {
        let bytes: Box<[u8]> = bytes.into();
        // SAFETY: `Key` is a transparent [u8], with its layout.
        unsafe { Box::from_raw(Box::into_raw(bytes) as *mut Key) }
    }
}

/// Where a value stands in the texts.
#[derive(Debug, Clone, Copy)]
struct ValuePlace {
    start: u32,
    /// With [`PLAIN`]: the bytes of a text, which begins behind a quote. 0: there is no value.
    len: u32,
}

/// The value is a text that is written as it is.
const PLAIN: u32 = 1 << 31;

/// A value of an entry.
#[derive(Debug, PartialEq)]
pub enum LookupValue<'m> {
    /// A text without escapes, and how it is written in JSON, with a blank behind it.
    Plain(&'m [u8], &'m [u8]),
    /// Any other one in JSON, with a blank behind it.
    Json(&'m [u8]),
}

impl<'m> LookupValue<'m> {
    pub fn json(&self) -> &'m [u8] {
        match self {
            LookupValue::Plain(_, json) | LookupValue::Json(json) => json,
        }
    }
}

impl Lookups {
    /// The lookup of this name, and the place of a field in its maps: a column asks for it.
    pub fn ask(&self, name: &str, field: Option<&str>) -> (Arc<Lookup>, usize) {
        let mut lookups = lock(&self.0);
        let lookup = match lookups.iter().find(|lookup| lookup.name == name) {
            Some(lookup) => lookup.clone(),
            None => {
                let lookup = Arc::new(Lookup::new(name));
                lookups.push(lookup.clone());
                lookup
            }
        };
        let place = lookup.place_of(field);
        (lookup, place)
    }

    pub fn get(&self, name: &str) -> Option<Arc<Lookup>> {
        lock(&self.0).iter().find(|lookup| lookup.name == name).cloned()
    }

    /// In the order in which columns name them.
    pub fn all(&self) -> Vec<Arc<Lookup>> {
        lock(&self.0).clone()
    }

    /// Sets the map of a lookup, which counts towards the ceiling of `memory`. `at` is where its entries come from, for errors.
    pub fn set(&self, name: &str, at: &str, text: &str, memory: &Arc<MemoryBudget>) -> Result<Arc<Lookup>> {
        let lookup = self.get(name).ok_or_else(|| {
            let names: Vec<String> = self.all().iter().map(|lookup| lookup.name.clone()).collect();
            let known = if names.is_empty() { "none".into() } else { names.join(", ") };
            Error::config(
                "name",
                format!("no column is filled from the lookup {name:?}; those named are: {known}"),
            )
        })?;
        let map = self.checked(&lookup, at, text, memory.limit())?;
        map.reserve(memory);
        lookup.replace(map);
        Ok(lookup)
    }

    /// The map of a configuration, which is counted when there is a pipeline: see [`Lookups::reserve`].
    pub fn set_configured(&self, lookup: &Lookup, at: &str, text: &str, ceiling: usize) -> Result<()> {
        let map = self.checked(lookup, at, text, ceiling)?;
        lookup.replace(map);
        Ok(())
    }

    fn checked(&self, lookup: &Lookup, at: &str, text: &str, ceiling: usize) -> Result<LookupMap> {
        let map = LookupMap::read(text, at, &lock(&lookup.fields))?;
        let others = self.all().into_iter().filter(|other| other.name != lookup.name);
        let bytes = map.bytes() + others.map(|other| other.map().bytes()).sum::<usize>();
        let limit = ceiling / SHARE;
        match bytes <= limit {
            true => Ok(map),
            false => Err(Error::LookupTooLarge { lookup: lookup.name.clone(), bytes, limit }),
        }
    }

    /// Counts the maps towards the ceiling.
    pub fn reserve(&self, memory: &Arc<MemoryBudget>) {
        self.all().iter().for_each(|lookup| lookup.map().reserve(memory));
    }
}

impl Lookup {
    fn new(name: &str) -> Lookup {
        Lookup {
            name: name.into(),
            fields: Mutex::default(),
            map: Mutex::default(),
            generation: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was ever set.
    pub fn is_set(&self) -> bool {
        self.generation() > 0
    }

    /// Rows whose key was not in the map.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    #[cold]
    pub fn count_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Grows with each map.
    #[inline(always)]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn map(&self) -> Arc<LookupMap> {
        lock(&self.map).clone()
    }

    /// The map with its generation.
    pub fn current(&self) -> (u64, Arc<LookupMap>) {
        let map = lock(&self.map);
        (self.generation(), map.clone())
    }

    fn replace(&self, map: LookupMap) {
        let mut current = lock(&self.map);
        let before = std::mem::replace(&mut *current, Arc::new(map));
        self.generation.fetch_add(1, Ordering::Release);
        drop(current);
        // Freeing a large map takes time: nobody waits for it.
        drop(before);
    }

    fn place_of(&self, field: Option<&str>) -> usize {
        let mut fields = lock(&self.fields);
        fields.iter().position(|known| known.as_deref() == field).unwrap_or_else(|| {
            fields.push(field.map(String::from));
            fields.len() - 1
        })
    }
}

impl LookupMap {
    /// Reads `{ key: scalar }` and `{ key: { field: scalar } }`, of which it keeps `fields`.
    fn read(text: &str, at: &str, fields: &[Option<String>]) -> Result<LookupMap> {
        let Members(entries) = serde_json::from_str(text).map_err(|error| {
            let message =
                if error.is_data() { "must be an object".into() } else { format!("is not JSON: {error}") };
            Error::config(at, message)
        })?;
        let mut map = LookupMap { fields: fields.len(), ..LookupMap::default() };
        map.places.reserve(entries.len());
        let mut is_found = vec![false; fields.len()];
        for (key, value) in &entries {
            let place = (map.values.len() / fields.len().max(1)) as u32;
            map.places.insert(Key::boxed(key.as_bytes()), place);
            let path = format!("{at}[{key:?}]");
            let values: Vec<(Option<String>, Option<&str>)> = if value.get().starts_with('{') {
                let Members(inner) = serde_json::from_str(value.get())
                    .map_err(|error| Error::config(&path, format!("is not JSON: {error}")))?;
                let checked = inner.into_iter().map(|(name, value)| {
                    let text = scalar(value, || format!("{path}.{name}"))?;
                    Ok((Some(name), text))
                });
                checked.collect::<Result<_>>()?
            } else {
                vec![(None, scalar(value, || path.clone())?)]
            };
            for (field, is_found) in fields.iter().zip(&mut is_found) {
                // The last of several members with one name counts.
                let found = values.iter().rev().find(|(name, _)| name == field);
                let Some((_, Some(text))) = found else {
                    map.values.push(ValuePlace { start: 0, len: 0 });
                    continue;
                };
                *is_found = true;
                map.push_value(text.as_bytes())
                    .ok_or_else(|| Error::config(at, "has more than 2 GiB of values"))?;
            }
        }
        map.places.shrink_to_fit();
        map.values.shrink_to_fit();
        map.texts.shrink_to_fit();
        map.bytes = map.measure();
        if !entries.is_empty() {
            let absent = fields.iter().zip(&is_found).filter(|(_, is_found)| !**is_found);
            map.absent = absent.filter_map(|(field, _)| field.clone()).collect();
        }
        Ok(map)
    }

    /// `None`: all values together are too large.
    fn push_value(&mut self, json: &[u8]) -> Option<()> {
        let start = u32::try_from(self.texts.len()).ok()?;
        let len = u32::try_from(json.len()).ok()?;
        start.checked_add(len).filter(|end| *end < PLAIN)?;
        self.values.push(match json {
            [b'"', text @ .., b'"'] if !text.contains(&b'\\') => {
                ValuePlace { start: start + 1, len: text.len() as u32 | PLAIN }
            }
            _ => ValuePlace { start, len: len + 1 },
        });
        self.texts.extend_from_slice(json);
        self.texts.push(b' ');
        Some(())
    }

    /// The number of its entries.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The fields that columns ask for and no entry has.
    pub fn absent(&self) -> &[String] {
        &self.absent
    }

    /// The memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn measure(&self) -> usize {
        let slots = self.places.capacity() * (size_of::<(Box<Key>, u32)>() + 1);
        let keys: usize = self.places.keys().map(|key| key.0.len() + ALLOCATION_BYTES).sum();
        slots + keys + self.values.capacity() * size_of::<ValuePlace>() + self.texts.capacity()
    }

    /// The entry of a key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.places.get(Key::of(key)).copied()
    }

    /// A field of an entry. `None`: the entry has none, or null.
    #[inline]
    pub fn value(&self, entry: u32, field: usize) -> Option<LookupValue<'_>> {
        // A field that was asked for after the map was set is not there.
        let at = entry as usize * self.fields + field;
        let ValuePlace { start, len } = *self.values.get(at).filter(|_| field < self.fields)?;
        let start = start as usize;
        if len & PLAIN != 0 {
            let end = start + (len & !PLAIN) as usize;
            // With the quotes and the blank.
            return Some(LookupValue::Plain(
                self.texts.get(start..end)?,
                self.texts.get(start - 1..end + 2)?,
            ));
        }
        let json = self.texts.get(start..start + len as usize)?;
        (len > 0).then_some(LookupValue::Json(json))
    }

    fn reserve(&self, memory: &Arc<MemoryBudget>) {
        self.memory.get_or_init(|| {
            let mut reservation = MemoryReservation::new(memory);
            reservation.resize(self.bytes());
            reservation
        });
    }
}

/// The text of a value without parts; `None` for null.
fn scalar(value: &RawValue, path: impl Fn() -> String) -> Result<Option<&str>> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'[' | b'{') => Err(Error::config(path(), "must be a text, a number, a boolean or null")),
        // JSON may hold a surrogate by itself, and texts may not.
        Some(b'"') => match serde_json::from_str::<String>(text) {
            Ok(_) => Ok(Some(text)),
            Err(error) => Err(Error::config(path(), format!("is not a text: {error}"))),
        },
        _ => Ok(Some(text)),
    }
}

/// The members of an object as they are written.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Members<'t>, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Entries).map(Members)
    }
}

#[cfg(test)]
mod tests;
