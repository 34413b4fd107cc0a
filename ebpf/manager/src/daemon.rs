//! `ebpf-manager run`: the sweeper, and a resolver view per enrolled container.

use std::{collections::HashMap, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use crate::{Manager, error::Error, resolver::Resolver};

/// How often flows are swept and new containers looked for.
const PERIOD: Duration = Duration::from_millis(250);

impl Manager {
    /// Runs until `stop` resolves. A failure degrades what it concerns, is logged, and is tried again;
    /// while this is not running, flows stay open and are not lost.
    ///
    /// # Errors
    /// If the pinned set is gone or of another version when it starts.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        self.pins.check()?;
        tokio::pin!(stop);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut views: HashMap<u64, Resolver> = HashMap::new();
        tracing::info!(event = "manager_running", pin_dir = %self.pins.dir().display());
        loop {
            tokio::select! {
                () = &mut stop => {
                    tracing::info!(event = "manager_stopping", views = views.len());
                    return Ok(());
                }
                _ = ticks.tick() => {
                    if let Err(error) = self.sweep(None) {
                        tracing::error!(event = "sweep_failed", %error);
                    }
                    if let Err(error) = self.serve_views(&mut views).await {
                        tracing::error!(event = "views_failed", %error);
                    }
                }
            }
        }
    }

    async fn serve_views(&self, serving: &mut HashMap<u64, Resolver>) -> Result<(), Error> {
        let wanted: Vec<u64> =
            self.views()?.iter().filter(|view| view.resolver.is_some()).map(|view| view.cgroup_id).collect();
        serving.retain(|cgroup_id, _| wanted.contains(cgroup_id));
        for cgroup_id in wanted {
            if serving.contains_key(&cgroup_id) {
                continue;
            }
            match Resolver::start(self, cgroup_id).await {
                Ok(resolver) => {
                    tracing::info!(event = "view_started", cgroup_id);
                    serving.insert(cgroup_id, resolver);
                }
                Err(error) => tracing::error!(event = "view_failed", cgroup_id, %error),
            }
        }
        Ok(())
    }
}
