//! The maps of lookups: set by the program, and looked at when a pipeline starts.

use crate::core::error::Result;
use crate::core::lookups::Lookup;
use crate::pipeline::Pipeline;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;

impl Pipeline {
    /// Sets the map of a lookup: JSON, `{ key: scalar }` or `{ key: { field: scalar } }`. Rows that are decoded from now on are
    /// filled from it. After an error the lookup is as before.
    pub fn set_lookup(&self, name: &str, entries: &str) -> Result<()> {
        let lookup = self.context.config.lookups.set(name, "map", entries, &self.context.memory)?;
        warn_of_absent_fields(&self.context, &lookup);
        Ok(())
    }
}

pub fn warn_of_unset_lookups(context: &PipelineContext) {
    for lookup in context.config.lookups.all() {
        if lookup.is_set() {
            warn_of_absent_fields(context, &lookup);
            continue;
        }
        let name = lookup.name();
        let message = format!(
            "the lookup {name} has no map yet: its columns take what they take where a key is missing, until \
             pipeline.lookup({name:?}, map) sets one"
        );
        context.warn(Warning::new("LOOKUP_UNSET", message).lookup(name));
    }
}

fn warn_of_absent_fields(context: &PipelineContext, lookup: &Lookup) {
    for field in lookup.map().absent() {
        let name = lookup.name();
        let message =
            format!("no entry of the lookup {name} has the field {field}, which a column is filled from");
        let warning = Warning::new("LOOKUP_FIELD_UNKNOWN", message).lookup(name).path(field);
        context.warn_once(format!("lookup {name} {field}"), warning);
    }
}
