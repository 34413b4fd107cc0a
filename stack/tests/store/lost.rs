//! What emitters lost, as it is found in the store.

use std::{
    fmt::Write as _,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use libtest_mimic::Failed;
use serde_json::{Value, json};
use stack::{
    lost::{Emitter, Tally},
    store::{Asked, Store, Wanted},
};

use super::{Plain, ask};

/// More than two pages.
const FLOWS: u64 = 2500;
const AGENT: &str = "one whose documents were lost";

/// Flows of one container, of which every tenth has no document; over several pages and two indices, some of it twice.
pub fn found(plain: &Plain) -> Result<(), Failed> {
    let store = Store::new(&plain.url, None, None)?;
    store.bootstrap(&Wanted::default())?;
    let begun = Instant::now();
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let (mut flows, mut proxied, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..FLOWS {
        let (port, end) = (10_000 + i, now - 1_200_000 + i * 100);
        flows.push(flow(end, port, json!({"reason": "redirected", "actual_dst_port": 15_443})));
        // Every tenth asked twice.
        let asks = if i % 10 == 1 { 2 } else { 1 };
        // Some under a bypass, which is no other way.
        let reason = if i % 4 == 0 { "bypass" } else { "dns" };
        let more = json!({"reason": reason, "dst_port": 53, "actual_dst_port": 5301, "l4_proto": "udp", "packets_out": asks});
        flows.push(flow(end, port, more));
        if i % 10 != 0 {
            // Of a connection several requests.
            for request in 0..=i % 3 {
                proxied.push(document(
                    end - 40 + request,
                    port,
                    json!({"listener_port": 15_443, "l7_proto": "https"}),
                ));
            }
            if i % 7 == 0 {
                // Delivered twice.
                flows.extend(flows.iter().rev().nth(1).cloned());
            }
        }
        if i % 5 != 0 {
            asked.push(document(end - 45, port, json!({"l4_proto": "udp"})));
        }
    }
    flows.push(flow(now - 1000, 9000, json!({"reason": "redirected", "actual_dst_port": 15_443})));
    // What a bypass lets go elsewhere is handed to nobody.
    for elsewhere in
        [json!({"dst_port": 53, "actual_dst_port": 53}), json!({"dst_port": 443, "actual_dst_port": 443})]
    {
        let mut flow = flow(now - 600_000, 9003, json!({"reason": "bypass", "l4_proto": "udp"}));
        flow["attributes"]
            .as_object_mut()
            .into_iter()
            .for_each(|of| of.extend(elsewhere.as_object().cloned().unwrap_or_default()));
        flows.push(flow);
    }
    for (port, close, sent) in [(9001, "refused", 0), (9002, "closed", 0)] {
        let more = json!({"reason": "redirected", "actual_dst_port": 15_443, "close_reason": close, "bytes_out": sent});
        flows.push(flow(now - 600_000, port, more));
    }
    // To another listener, from the same port: not this flow's.
    proxied.push(document(now - 600_000, 9002, json!({"listener_port": 16_000, "l7_proto": "tcp"})));
    let (early, late) = flows.split_at(flows.len() / 2);
    add(plain, "clawker-egress", early)?;
    plain.done("POST", "clawker-egress/_rollover", &json!({}))?;
    add(plain, "clawker-egress", late)?;
    add(plain, "clawker-envoy", &proxied)?;
    add(plain, "clawker-coredns", &asked)?;
    let requests: u64 = (0..FLOWS).filter(|i| i % 10 != 0).map(|i| 1 + i % 3).sum();
    let lost =
        |emitter| -> Result<Tally, Failed> { Ok(store.lost(emitter, &Asked::default())?.of_agent(AGENT)) };
    let expected = Tally {
        told: FLOWS * 9 / 10,
        lost: FLOWS / 10,
        young: 1,
        not_taken: 1,
        silent: 1,
        documents: requests,
        strange: 1,
        ..Tally::default()
    };
    same(lost(Emitter::Proxy)?, expected)?;
    let expected = Tally {
        told: FLOWS * 4 / 5,
        lost: FLOWS / 5,
        documents: FLOWS * 4 / 5,
        untold: FLOWS / 10,
        ..Tally::default()
    };
    same(lost(Emitter::Resolver)?, expected)?;
    // The window's border lies between two flows, and a document of the one before it is not strange.
    let since = Duration::from_millis(now - (now - 1_200_000 + 50 * 100 - 30));
    let asked = Asked { since, ..Asked::default() };
    let tally = store.lost(Emitter::Proxy, &asked)?.of_agent(AGENT);
    // The window moved on meanwhile.
    let judged = FLOWS - 51 - u64::try_from(begun.elapsed().as_millis())? / 100..=FLOWS - 50;
    if !judged.contains(&(tally.told + tally.lost)) || tally.strange != 1 || tally.open != 0 {
        return Err(format!("at the border: {tally:?}").into());
    }
    Ok(())
}

fn same(found: Tally, expected: Tally) -> Result<(), Failed> {
    if found == expected { Ok(()) } else { Err(format!("{found:?} is not {expected:?}").into()) }
}

fn flow(end: u64, port: u64, more: Value) -> Value {
    let attributes = json!({
        "verdict": "ALLOWED", "record_type": "flow", "duration_ms": 50, "close_reason": "closed", "bytes_out": 10,
    });
    one(end, port, [attributes, more])
}

fn document(begin: u64, port: u64, more: Value) -> Value {
    one(begin, port, [json!({}), more])
}

fn one(time: u64, port: u64, more: [Value; 2]) -> Value {
    let mut attributes = json!({
        "agent": AGENT, "project": "demo", "container_id": "lost", "src_ip": "198.18.0.77", "src_port": port,
    });
    for more in more {
        for (name, value) in more.as_object().into_iter().flatten() {
            attributes[name] = value.clone();
        }
    }
    if attributes["record_type"] == "flow" {
        attributes["event_id"] = json!(format!("lost-{time}-{port}-{}", attributes["reason"]));
    }
    json!({"@timestamp": time, "attributes": attributes})
}

fn add(plain: &Plain, stream: &str, documents: &[Value]) -> Result<(), Failed> {
    let mut body = String::new();
    for document in documents {
        writeln!(body, "{{\"create\":{{}}}}\n{document}")?;
    }
    let url = format!("{}/{stream}/_bulk", plain.url);
    let (status, answer) = ask(&plain.agent, "POST", &url, None, &body)?;
    if status != 200 || answer["errors"] != false {
        return Err(format!("{status}: {}", answer["items"][0]).into());
    }
    Ok(())
}
