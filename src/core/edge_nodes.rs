//! What the edge nodes of Sparkplug B said at birth of their metrics: later messages have numbers in place of names, and no types.
//!
//! A route and all that decode for it share one of these, so that a message decoded anew finds the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// More metrics of an edge node than this are not remembered, nor more edge nodes.
const MAX_METRICS: usize = 1 << 20;
const MAX_NODES: usize = 1 << 16;

#[derive(Debug, Default, Clone)]
pub struct EdgeNodes(Arc<Mutex<HashMap<String, EdgeNode>>>);

#[derive(Debug, Default)]
struct EdgeNode {
    by_alias: HashMap<u64, (String, u32)>,
    /// By device, which is empty for the node itself, and name.
    types: HashMap<(String, String), u32>,
}

impl EdgeNodes {
    /// An edge node was born: what was known of it and its devices is void.
    pub fn begin(&self, node: &str) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() < MAX_NODES || nodes.contains_key(node) {
            nodes.insert(node.into(), EdgeNode::default());
        }
    }

    /// A metric of a BIRTH message.
    pub fn learn(&self, node: &str, device: &str, name: &str, alias: Option<u64>, datatype: u32) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() >= MAX_NODES && !nodes.contains_key(node) {
            return;
        }
        let known = nodes.entry(node.into()).or_default();
        if known.types.len() >= MAX_METRICS || known.by_alias.len() >= MAX_METRICS {
            return;
        }
        known.types.insert((device.into(), name.into()), datatype);
        if let Some(alias) = alias {
            known.by_alias.insert(alias, (name.into(), datatype));
        }
    }

    /// The name and datatype of an alias.
    pub fn alias(&self, node: &str, alias: u64) -> Option<(String, u32)> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(node)?.by_alias.get(&alias).cloned()
    }

    pub fn datatype(&self, node: &str, device: &str, name: &str) -> Option<u32> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = nodes.get(node)?;
        let of = |name: &str| known.types.get(&(device.to_string(), name.to_string())).copied();
        of(name).or_else(|| of(name.strip_prefix("DATA/")?)).or_else(|| of(&format!("DATA/{name}")))
    }
}
