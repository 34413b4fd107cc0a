//! When a document says that something happened, against when the harness had it happen. All clocks are
//! this machine's.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{
    evidence::{Evidence, Fired, address, describe, number, text},
    model::{started, timestamp},
};
use crate::event::{Class, Failure};

/// What lies between two readings of two clocks.
const SLACK: Duration = Duration::from_millis(40);

/// A call is recorded while a step of its agent runs, and a flow lasts as long as its step says it does.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let failure = |document: &Value, message: String| {
        evidence.failure(
            Class::MisRecord,
            "steps",
            format!("{message}: {}", describe(document)),
            String::new(),
        )
    };
    let mut failures = Vec::new();
    for document in &evidence.documents {
        let called = matches!(text(document, "hook"), "connect" | "sendmsg" | "sock_create");
        let own = evidence.agents.iter().position(|own| own.cgroup_id == number(document, "cgroup_id"));
        let (Some(agent), true) = (own, called) else { continue };
        let Some((start, end)) = started(document).zip(timestamp(document)) else {
            failures.push(failure(document, "a document without its time".to_owned()));
            continue;
        };
        let fired = || evidence.fired.iter().filter(|fired| fired.agent == agent);
        let is_sum = text(document, "reason") == "various";
        // A sum says between when: it begins where the one before it ended, the first with the enrolment.
        let ran =
            |fired: &Fired| within(start, fired) || is_sum && (start..=end + SLACK).contains(&fired.started);
        if !fired().any(ran) || end > SystemTime::now() + SLACK {
            let message = "no step of its agent ran when the document says that it began";
            failures.push(failure(document, message.to_owned()));
            continue;
        }
        if let Some(least) = lasts(evidence, fired(), document)
            && number(document, "duration_ms") < millis(least)
        {
            let message = format!(
                "it stayed open for at least {least:?}, and the document says {} ms",
                number(document, "duration_ms")
            );
            failures.push(failure(document, message));
        }
    }
    failures
}

fn within(moment: SystemTime, fired: &Fired) -> bool {
    fired.started <= moment + SLACK && moment <= fired.ended + SLACK
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long a flow was open at least, where one step alone went there and paused on the way.
fn lasts<'f>(
    evidence: &Evidence<'_>,
    fired: impl Iterator<Item = &'f Fired>,
    document: &Value,
) -> Option<Duration> {
    if text(document, "verdict") == "DENIED"
        || !matches!(text(document, "close_reason"), "closed" | "aborted")
    {
        return None;
    }
    let (ip, port) = (address(document, "dst_ip")?.to_canonical(), number(document, "dst_port"));
    let mut there = fired.filter(|fired| {
        let dst = fired.report.dst;
        dst.is_some_and(|dst| dst.ip().to_canonical() == ip && u64::from(dst.port()) == port)
    });
    let (Some(one), None) = (there.next(), there.next()) else { return None };
    let step = evidence.cell.step(&one.path).filter(|_| one.report.outcome == "ok")?;
    let connected = step.connect.as_ref().and_then(|connect| connect.pause);
    let sent = step.send.as_ref().and_then(|send| Some(send.pause? * send.count.saturating_sub(1)));
    let least = connected.or(sent)?;
    // A call of several flows stays in none of them for as long.
    let alone = evidence.documents.iter().filter(|other| {
        address(other, "dst_ip").is_some_and(|other| other.to_canonical() == ip)
            && number(other, "dst_port") == port
    });
    (alone.count() == 1).then_some(least)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    use super::{super::sample, *};

    #[test]
    fn a_document_begins_while_a_step_runs() {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        let began = evidence.fired[0].started;
        let told = |evidence: &mut Evidence<'_>, end: SystemTime, duration_ms: u64| {
            let mut document = sample::document();
            document["@timestamp"] = json!(OffsetDateTime::from(end).format(&Rfc3339).unwrap());
            document["attributes"]["duration_ms"] = duration_ms.into();
            evidence.documents = vec![document];
            judge(evidence).len()
        };
        assert_eq!(told(&mut evidence, began, 0), 0);
        assert_eq!(told(&mut evidence, began + Duration::from_secs(3600), 3_600_000), 1, "it is to come");
        assert_eq!(told(&mut evidence, began, 900), 1, "it is from before");
        evidence.documents = vec![sample::document()];
        assert_eq!(judge(&evidence).len(), 1, "it has no time");
    }

    #[test]
    fn a_sum_may_begin_before_the_step_that_it_is_of() {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        let began = evidence.fired.iter().map(|fired| fired.started).min().unwrap();
        for (reason, end, wrong) in
            [("various", began + SLACK, 0), ("no_rule", began + SLACK, 1), ("various", began - SLACK * 3, 1)]
        {
            let mut document = sample::document();
            document["@timestamp"] = json!(OffsetDateTime::from(end).format(&Rfc3339).unwrap());
            document["attributes"]["duration_ms"] = json!(700);
            document["attributes"]["reason"] = json!(reason);
            evidence.documents = vec![document];
            assert_eq!(judge(&evidence).len(), wrong, "{reason}");
        }
    }
}
