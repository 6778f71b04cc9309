//! Names and types of metrics from the birth messages of Sparkplug B: later messages have numbers in
//! place of names, and no types.
//!
//! A route and all that decode for it share one of these, so that a message decoded anew finds the same.

use crate::core::lock::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// More metrics of an edge node than this are not remembered, nor more edge nodes.
const MAX_METRICS: usize = 1 << 20;
const MAX_NODES: usize = 1 << 16;

#[derive(Debug, Default, Clone)]
pub struct EdgeNodes(Arc<Mutex<Nodes>>);

#[derive(Debug, Default)]
struct Nodes {
    nodes: HashMap<String, EdgeNode>,
    /// Bytes of all nodes, and what they may take: publishers choose how many there are.
    bytes: usize,
    max_bytes: Option<usize>,
}

/// Bytes of a node or a metric beside its names.
const ENTRY_BYTES: usize = 96;

#[derive(Debug, Default)]
struct EdgeNode {
    by_alias: HashMap<u64, (String, u32)>,
    /// By device, which is empty for the node itself, and name.
    types: HashMap<(String, String), u32>,
    bytes: usize,
}

impl EdgeNodes {
    /// Takes at most `max_bytes` for all nodes.
    pub fn within(max_bytes: usize) -> EdgeNodes {
        EdgeNodes(Arc::new(Mutex::new(Nodes { max_bytes: Some(max_bytes), ..Nodes::default() })))
    }

    /// An edge node was born: what was known of it and its devices is void.
    pub fn begin(&self, node: &str) {
        let nodes = &mut *self.lock();
        let known = nodes.nodes.remove(node);
        nodes.bytes -= known.map_or(0, |known| known.bytes);
        nodes.node(node);
    }

    /// A metric of a BIRTH message.
    pub fn learn(&self, node: &str, device: &str, name: &str, alias: Option<u64>, datatype: u32) {
        let nodes = &mut *self.lock();
        let is_full = nodes.is_full();
        let Some(known) = nodes.node(node) else { return };
        let before = known.bytes;
        // The alias of another metric until now must not lead to that one, even where there is no memory for this one.
        if let Some((replaced, _)) = alias.and_then(|alias| known.by_alias.remove(&alias)) {
            known.bytes -= ENTRY_BYTES + replaced.len();
        }
        let metric = (device.to_string(), name.to_string());
        let is_new = !known.types.contains_key(&metric);
        // A known metric takes no more memory, but a new alias of it does.
        if !is_new || (!is_full && known.types.len() < MAX_METRICS) {
            known.bytes += if is_new { ENTRY_BYTES + device.len() + name.len() } else { 0 };
            known.types.insert(metric, datatype);
        }
        let has_room = !is_full || known.bytes + ENTRY_BYTES + name.len() <= before;
        if let Some(alias) = alias.filter(|_| has_room && known.by_alias.len() < MAX_METRICS) {
            known.by_alias.insert(alias, (name.into(), datatype));
            known.bytes += ENTRY_BYTES + name.len();
        }
        let after = known.bytes;
        nodes.bytes = nodes.bytes - before + after;
    }

    /// The name and datatype of an alias.
    pub fn alias(&self, node: &str, alias: u64) -> Option<(String, u32)> {
        self.lock().nodes.get(node)?.by_alias.get(&alias).cloned()
    }

    pub fn datatype(&self, node: &str, device: &str, name: &str) -> Option<u32> {
        let nodes = self.lock();
        let known = nodes.nodes.get(node)?;
        let of = |name: &str| known.types.get(&(device.to_string(), name.to_string())).copied();
        of(name).or_else(|| of(name.strip_prefix("DATA/")?)).or_else(|| of(&format!("DATA/{name}")))
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        lock(&self.0)
    }
}

impl Nodes {
    fn is_full(&self) -> bool {
        self.max_bytes.is_some_and(|max| self.bytes >= max)
    }

    /// A node that is known, or may be.
    fn node(&mut self, name: &str) -> Option<&mut EdgeNode> {
        if !self.nodes.contains_key(name) {
            if self.nodes.len() >= MAX_NODES || self.is_full() {
                return None;
            }
            let bytes = ENTRY_BYTES + name.len();
            self.bytes += bytes;
            self.nodes.insert(name.into(), EdgeNode { bytes, ..EdgeNode::default() });
        }
        self.nodes.get_mut(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn birth_messages_take_no_more_memory_than_the_limit() {
        let nodes = EdgeNodes::within(10_000);
        for at in 0..1000 {
            nodes.begin(&format!("group/node{at}"));
            nodes.learn(&format!("group/node{at}"), "", "temperature", Some(at), 9);
        }
        let bytes = || nodes.lock().bytes;
        assert!((10_000..10_500).contains(&bytes()), "{} bytes", bytes());
        assert_eq!(nodes.alias("group/node0", 0), Some(("temperature".into(), 9)));
        assert_eq!(nodes.alias("group/node999", 999), None);
        // A known metric may be repeated, and its memory is released with the next birth.
        let before = bytes();
        nodes.learn("group/node0", "", "temperature", Some(0), 10);
        assert_eq!((nodes.datatype("group/node0", "", "temperature"), bytes()), (Some(10), before));
        nodes.begin("group/node0");
        assert!(bytes() < before);
        nodes.learn("group/node0", "", "pressure", None, 9);
        assert_eq!(nodes.datatype("group/node0", "", "pressure"), Some(9));
    }

    #[test]
    fn new_aliases_of_a_known_metric_take_no_more_memory_than_the_limit() {
        let nodes = EdgeNodes::within(10_000);
        for alias in 0..1000 {
            nodes.learn("group/node", "", "temperature", Some(alias), 9);
        }
        let bytes = nodes.lock().bytes;
        assert!((10_000..10_500).contains(&bytes), "{bytes} bytes");
        // There is no memory for a longer name, and the alias does not lead to the metric that had it before.
        nodes.learn("group/node", "device", "temperature outside", Some(0), 9);
        assert_eq!(nodes.alias("group/node", 0), None);
        assert_eq!(nodes.alias("group/node", 1), Some(("temperature".into(), 9)));
    }
}
