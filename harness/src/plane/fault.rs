//! What goes wrong in the plane, for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use stack::{
    Lane,
    store::{Store, Wanted},
};

use super::{Plane, answers, listens, runs, search::Search};
use crate::{docker::Container, interrupt, scenario::types::Stopped};

/// A field of every document that a store may be without.
const FIELD: &str = "event_id";

impl Plane {
    /// Has `part` stopped from now on, and back after `length`, while the caller goes on.
    ///
    /// # Errors
    /// If it cannot be stopped; what is no part of the plane is not.
    pub(crate) fn stop(self: &Arc<Self>, part: Stopped, length: Duration) -> anyhow::Result<()> {
        if let Err(error) = self.begin(part) {
            // What has no answer may be done all the same.
            self.end(part)?;
            return Err(error);
        }
        self.stopped.fetch_add(1, Ordering::SeqCst);
        let plane = Arc::clone(self);
        let body = move || {
            interrupt::sleep(length);
            if let Err(error) = plane.end(part) {
                // The first is the cause of what follows.
                let _ = plane.broken.set(format!("{part} was stopped and is not back: {error:#}"));
            }
            plane.stopped.fetch_sub(1, Ordering::SeqCst);
        };
        thread::Builder::new().name("outage".to_owned()).spawn(body)?;
        Ok(())
    }

    /// Whether anything is stopped, and will be back.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) > 0
    }

    /// Whether all that was stopped, in this case or one before, came back.
    ///
    /// # Errors
    /// What did not.
    pub(crate) fn is_whole(&self) -> anyhow::Result<()> {
        self.broken.get().map_or(Ok(()), |problem| Err(anyhow::anyhow!("{problem}")))
    }

    /// Has a stream go on in another index.
    ///
    /// # Errors
    /// If the store does not.
    pub(crate) fn roll_over(&self, stream: &str) -> anyhow::Result<()> {
        self.search.roll_over(stream)
    }

    fn begin(&self, part: Stopped) -> anyhow::Result<()> {
        match part {
            Stopped::Opensearch => lock(&self.store).kill()?,
            Stopped::Collector => lock(&self.collector).kill()?,
            Stopped::Relay => lock(&self.relay).kill()?,
            Stopped::Writes => {
                self.search.set(&json!({"index.blocks.write": true}))?;
                self.search.refuses("cluster_block_exception")?;
            }
            Stopped::Room => {
                self.search.set(&json!({"index.blocks.read_only_allow_delete": true}))?;
                self.search.refuses("cluster_block_exception")?;
            }
            Stopped::Field => {
                for stream in Lane::ALL.map(Lane::stream) {
                    let mut template = self.search.template(&stream)?;
                    let fields = template.pointer_mut("/template/mappings/properties/attributes/properties");
                    fields.and_then(Value::as_object_mut).and_then(|fields| fields.remove(FIELD));
                    self.search.put_template(&stream, &template)?;
                    self.search.roll_over(&stream)?;
                }
                self.search.refuses("strict_dynamic_mapping_exception")?;
            }
            Stopped::Reader | Stopped::Endpoint | Stopped::Coredns | Stopped::Envoy => {
                anyhow::bail!("{part} is no part of the plane")
            }
        }
        Ok(())
    }

    fn end(&self, part: Stopped) -> anyhow::Result<()> {
        let url = self.search.url();
        match part {
            Stopped::Opensearch => {
                let mut store = lock(&self.store);
                store.start()?;
                answers(&store, || self.search.is_ready())?;
            }
            Stopped::Collector => {
                let mut collector = lock(&self.collector);
                collector.start()?;
                answers(&collector, || runs(self.collectors.ours))?;
            }
            Stopped::Relay => {
                let mut relay = lock(&self.relay);
                relay.start()?;
                answers(&relay, || listens(self.relay_pages))?;
            }
            Stopped::Writes => self.search.set(&json!({"index.blocks.write": null}))?,
            Stopped::Room => self.search.set(&json!({"index.blocks.read_only_allow_delete": null}))?,
            Stopped::Field => {
                let wanted = Wanted { overwrite: true, ..Wanted::default() };
                Store::new(url, None, None)?.bootstrap(&wanted)?;
                for stream in Lane::ALL.map(Lane::stream) {
                    self.search.roll_over(&stream)?;
                }
            }
            Stopped::Reader | Stopped::Endpoint | Stopped::Coredns | Stopped::Envoy => {}
        }
        Ok(())
    }
}

pub(super) fn lock(container: &Mutex<Container>) -> MutexGuard<'_, Container> {
    // A guard and numbers: valid even if a holder panicked.
    container.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Search {
    /// That a record is refused now, and why.
    fn refuses(&self, why: &str) -> anyhow::Result<()> {
        let record = json!({"@timestamp": 0, "attributes": {FIELD: "probe"}});
        let path = format!("{}/_doc?op_type=create", Lane::Egress.stream());
        match self.post::<Value>(&path, &record) {
            Ok(_) => anyhow::bail!("the store took a record that it was to refuse"),
            Err(error) if format!("{error:#}").contains(why) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes settings of every index.
    fn set(&self, settings: &Value) -> anyhow::Result<()> {
        self.put(&format!("{}/_settings", super::search::STREAMS), settings)
    }

    /// The index template of that name.
    fn template(&self, name: &str) -> anyhow::Result<Value> {
        let found = self.get(&format!("_index_template/{name}"))?;
        let template = found.pointer("/index_templates/0/index_template").cloned();
        template.ok_or_else(|| anyhow::anyhow!("there is no index template {name}"))
    }

    fn put_template(&self, name: &str, template: &Value) -> anyhow::Result<()> {
        self.put(&format!("_index_template/{name}"), template)
    }

    /// Has a stream go on in a new index.
    fn roll_over(&self, stream: &str) -> anyhow::Result<()> {
        self.post::<Value>(&format!("{stream}/_rollover"), &json!({})).map(drop)
    }
}
