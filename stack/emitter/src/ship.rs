//! Sends what waits, and forgets it upon the answer.

use std::{collections::HashMap, io, path::PathBuf, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::{sync::watch, time::sleep};

use crate::{
    folder::{Events, Kept},
    logs::{Line, Logs},
    otlp::{self, Client, Fate},
};

/// Records in one request.
const BATCH: usize = 64;
/// Between looks for events, which other processes write.
const PERIOD: Duration = Duration::from_millis(250);
/// The first wait after a failure, at least; twice as long after each further one ...
const FIRST: Duration = Duration::from_millis(50);
/// ... up to this; and each up to twice as long as that, drawn, so that many machines do not come back at once.
const LAST: Duration = Duration::from_millis(2500);
/// How often an event is refused, while others are taken, before it is set aside.
const STRIKES: u32 = 3;

/// Sends a program's events until told to stop; what is there then is sent once more.
pub(crate) async fn events(events: Events, mut client: Client, mut stop: watch::Receiver<bool>) {
    let (mut trouble, mut strikes) = (Trouble::new("events"), HashMap::new());
    loop {
        let stopping = is_over(&stop);
        match round(&events, &mut client, &mut strikes).await {
            Ok(true) => {
                trouble.over();
                continue;
            }
            Ok(false) if stopping => return,
            Ok(false) => {
                trouble.over();
                until(&mut stop, PERIOD).await;
                continue;
            }
            Err(why) => trouble.because(&why),
        }
        if stopping {
            return;
        }
        let wait = trouble.wait();
        until(&mut stop, wait).await;
    }
}

/// Sends the oldest events, all of which must be taken. `false`: there are none.
async fn round(
    events: &Events,
    client: &mut Client,
    strikes: &mut HashMap<PathBuf, u32>,
) -> Result<bool, String> {
    let of_disk = |error: io::Error| format!("the folder of events: {error}");
    events.tell_lost().map_err(of_disk)?;
    let kept = events.oldest(BATCH).map_err(of_disk)?;
    if kept.is_empty() {
        strikes.clear();
        return Ok(false);
    }
    let records: Vec<_> = kept.iter().map(otlp::of_event).collect();
    let fates = client.deliver(&records).await;
    let takes_any = fates.contains(&Fate::Taken);
    let mut problem = None;
    for (Kept { path, .. }, fate) in kept.iter().zip(fates) {
        let why = match fate {
            Fate::Taken => {
                strikes.remove(path);
                events.forget(path).map_err(of_disk)?;
                continue;
            }
            Fate::Rejected(why) => {
                events.set_aside(path, &why).map_err(of_disk)?;
                continue;
            }
            Fate::Refused(why) if takes_any => {
                let count = strikes.entry(path.clone()).or_default();
                *count = count.saturating_add(1);
                if *count >= STRIKES {
                    strikes.remove(path);
                    events.set_aside(path, &why).map_err(of_disk)?;
                    continue;
                }
                why
            }
            Fate::Refused(why) | Fate::Unheard(why) => why,
        };
        problem = Some(why);
    }
    problem.map_or(Ok(true), Err)
}

/// Sends a process's log lines until told to stop; what is there then is sent once more.
pub(crate) async fn logs(
    logs: Logs,
    component: String,
    node: String,
    mut client: Client,
    mut stop: watch::Receiver<bool>,
) {
    let mut trouble = Trouble::new("logs");
    let mut batch: Vec<Line> = Vec::new();
    loop {
        let stopping = is_over(&stop);
        if batch.is_empty() {
            batch = logs.take(BATCH);
        }
        if batch.is_empty() {
            if stopping {
                return;
            }
            tokio::select! { () = logs.news() => {} _ = stop.changed() => {} }
            continue;
        }
        let records: Vec<_> = batch.iter().map(|line| otlp::of_line(line, &component, &node)).collect();
        let fates = client.deliver(&records).await;
        let takes_any = fates.contains(&Fate::Taken);
        let (mut problem, mut refused) = (None, Vec::new());
        let lines = std::mem::take(&mut batch);
        for (line, fate) in lines.into_iter().zip(fates) {
            match fate {
                Fate::Taken => {}
                Fate::Rejected(_) => logs.dropped(1),
                Fate::Refused(_) if takes_any => logs.dropped(1),
                Fate::Refused(why) => {
                    problem = Some(why);
                    refused.push(line);
                }
                Fate::Unheard(why) => {
                    problem = Some(why);
                    batch.push(line);
                }
            }
        }
        logs.again(refused);
        match problem {
            None => trouble.over(),
            Some(why) => {
                trouble.because(&why);
                if stopping {
                    return;
                }
                let wait = trouble.wait();
                until(&mut stop, wait).await;
            }
        }
    }
}

/// Whether it is to stop, or nobody is left who could say so.
fn is_over(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Waits for so long, or until it is to stop.
async fn until(stop: &mut watch::Receiver<bool>, length: Duration) {
    tokio::select! { () = sleep(length) => {} _ = stop.changed() => {} }
}

/// That something is not shipped: logged, here alone, when it begins and when it is over.
struct Trouble {
    what: &'static str,
    /// While it lasts.
    waits: Option<ExponentialBackoff>,
}

impl Trouble {
    const fn new(what: &'static str) -> Self {
        Self { what, waits: None }
    }

    fn because(&self, why: &str) {
        if self.waits.is_none() {
            tracing::warn!(event = "not_shipped", what = self.what, why, "they wait; it is tried again");
        }
    }

    fn over(&mut self) {
        if self.waits.take().is_some() {
            tracing::info!(event = "shipped_again", what = self.what);
        }
    }

    /// How long until the next attempt.
    fn wait(&mut self) -> Duration {
        let waits = ExponentialBuilder::new().with_min_delay(FIRST).with_max_delay(LAST);
        let new = || waits.without_max_times().with_jitter().build();
        self.waits.get_or_insert_with(new).next().unwrap_or(LAST)
    }
}
