//! Names and types of metrics from the birth messages of Sparkplug B: later messages have numbers in
//! place of names, and no types.
//!
//! A route and all that decode for it share one of these, so that a message decoded anew finds the same. The decoder of a connection
//! also notes nodes whose messages cannot be understood, because a BIRTH is unknown or a message is missing: [`EdgeNodes::observe`].

use crate::core::lock::lock;
use crate::core::rebirths::NotedRebirths;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// More metrics of an edge node than this are not remembered, nor more edge nodes.
const MAX_METRICS: usize = 1 << 20;
const MAX_NODES: usize = 1 << 16;

#[derive(Debug, Default, Clone)]
pub struct EdgeNodes {
    nodes: Arc<Mutex<Nodes>>,
    observer: Option<Observer>,
}

/// Takes notes of messages as they come.
#[derive(Debug, Clone)]
struct Observer {
    noted: NotedRebirths,
    /// Whether all messages of a node come this way, in their order.
    checks_sequence: bool,
}

/// A message of an edge node, or of a device behind it.
#[derive(Clone, Copy)]
pub struct NodeMessage<'a> {
    /// `NBIRTH`, `DDATA` and so on.
    pub kind: &'a str,
    /// `group/node`.
    pub node: &'a str,
    /// Empty for the node itself.
    pub device: &'a str,
    /// Counts the messages of the node, from 0 to 255 and again from 0.
    pub sequence: Option<u64>,
    pub command_topic: &'a dyn Fn() -> String,
}

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
    /// Whether its NBIRTH came.
    is_born: bool,
    /// Devices whose DBIRTH came; only where messages are observed.
    devices: HashSet<String>,
    /// The number of the last message.
    sequence: Option<u8>,
    /// The numbers between which a message is missing since the NBIRTH.
    gap: Option<(u8, u8)>,
}

impl EdgeNodes {
    /// Takes at most `max_bytes` for all nodes.
    pub fn within(max_bytes: usize) -> EdgeNodes {
        let nodes = Nodes { max_bytes: Some(max_bytes), ..Nodes::default() };
        EdgeNodes { nodes: Arc::new(Mutex::new(nodes)), observer: None }
    }

    /// The same nodes, for a decoder whose messages are to be observed.
    pub fn observed(&self, noted: NotedRebirths, checks_sequence: bool) -> EdgeNodes {
        EdgeNodes { nodes: self.nodes.clone(), observer: Some(Observer { noted, checks_sequence }) }
    }

    /// Notes the node if its BIRTH, or that of the device, is unknown, or a message is missing.
    pub fn observe(&self, message: &NodeMessage<'_>) {
        let Some(observer) = &self.observer else { return };
        if let Some(reason) = self.lock().gap(message, observer.checks_sequence) {
            observer.noted.note((message.command_topic)(), || reason);
        }
    }

    /// Notes a node whose message cannot be understood.
    pub fn note(&self, message: &NodeMessage<'_>, reason: &str) {
        if let Some(observer) = &self.observer {
            observer.noted.note((message.command_topic)(), || reason.into());
        }
    }

    /// An edge node was born: what was known of it and its devices is void.
    pub fn begin(&self, node: &str) {
        let nodes = &mut *self.lock();
        let known = nodes.nodes.remove(node);
        nodes.bytes -= known.map_or(0, |known| known.bytes);
        if let Some(node) = nodes.node(node) {
            node.is_born = true;
        }
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
        lock(&self.nodes)
    }
}

impl Nodes {
    /// Why a message cannot be understood, if so.
    fn gap(&mut self, message: &NodeMessage<'_>, checks_sequence: bool) -> Option<String> {
        let NodeMessage { kind, node, device, .. } = *message;
        if !matches!(kind, "NBIRTH" | "NDATA" | "DBIRTH" | "DDATA" | "DDEATH") {
            return None;
        }
        let has_room = !self.is_full();
        let known = self.nodes.get_mut(node).filter(|known| known.is_born);
        let Some(known) = known else { return Some(format!("no NBIRTH of {node} has come")) };
        let sequence = message.sequence.filter(|_| checks_sequence).map(|sequence| sequence as u8);
        let last = known.sequence;
        known.sequence = sequence.or(last);
        if kind == "NBIRTH" {
            return None;
        }
        if let (Some(last), Some(sequence)) = (last, sequence)
            // The same number again is the same message again.
            && sequence != last
            && sequence != last.wrapping_add(1)
        {
            known.gap.get_or_insert((last, sequence));
        }
        match kind {
            "DBIRTH" if has_room && known.devices.insert(device.into()) => {
                let bytes = ENTRY_BYTES + device.len();
                known.bytes += bytes;
                self.bytes += bytes;
            }
            "DDEATH" if known.devices.remove(device) => {
                let bytes = ENTRY_BYTES + device.len();
                known.bytes -= bytes;
                self.bytes -= bytes;
            }
            _ => {}
        }
        if let Some((last, next)) = known.gap {
            return Some(format!("{node} has sent the number {next} after {last}"));
        }
        (kind == "DDATA" && !known.devices.contains(device))
            .then(|| format!("no DBIRTH of the device {device} of {node} has come"))
    }

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

    #[test]
    fn nodes_whose_messages_cannot_be_understood_are_noted() {
        let noted = NotedRebirths::default();
        let nodes = EdgeNodes::within(100_000);
        let observed = nodes.observed(noted.clone(), true);
        let send = |kind: &str, device: &str, sequence| {
            if kind == "NBIRTH" {
                observed.begin("g/n");
            }
            let command_topic = &|| "t".to_string();
            let message = NodeMessage { kind, node: "g/n", device, sequence: Some(sequence), command_topic };
            observed.observe(&message);
            // A message that is decoded again is not observed.
            nodes.observe(&message);
            noted.take().first().map(|request| request.reason.clone())
        };
        let reason = |text: &str| Some(text.to_string());
        assert_eq!(send("NDATA", "", 5), reason("no NBIRTH of g/n has come"));
        assert_eq!(send("NCMD", "", 5), None);
        assert_eq!(send("NBIRTH", "", 0), None);
        assert_eq!(send("NDATA", "", 1), None);
        assert_eq!(send("NDATA", "", 1), None, "the same message again");
        assert_eq!(send("DDATA", "d", 2), reason("no DBIRTH of the device d of g/n has come"));
        assert_eq!(send("DBIRTH", "d", 3), None);
        assert_eq!(send("DDATA", "d", 4), None);
        assert_eq!(send("DDEATH", "d", 5), None);
        assert_eq!(send("DDATA", "d", 6), reason("no DBIRTH of the device d of g/n has come"));
        assert_eq!(send("NBIRTH", "", 255), None);
        assert_eq!(send("NDATA", "", 0), None);
        assert_eq!(send("NDATA", "", 2), reason("g/n has sent the number 2 after 0"));
        assert_eq!(send("NDATA", "", 3), reason("g/n has sent the number 2 after 0"), "until the NBIRTH");
        assert_eq!(send("NBIRTH", "", 0), None);
        assert_eq!(send("NDATA", "", 1), None);
        let bytes = nodes.lock().bytes;
        send("DBIRTH", "device", 2);
        send("DBIRTH", "device", 3);
        assert_eq!(nodes.lock().bytes, bytes + ENTRY_BYTES + "device".len());
        send("DDEATH", "device", 4);
        assert_eq!(nodes.lock().bytes, bytes);
    }
}
