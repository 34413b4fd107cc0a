//! What a document calls its destination, against the case's own hosts.

use std::net::IpAddr;

use serde_json::Value;

use super::evidence::{Evidence, attribute, describe, text};
use crate::event::{Class, Failure};

/// A name leads to the address, more than one where it is said to be ambiguous, and addresses are written in
/// their one form.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let wrong = |document| wrong(evidence, document).map(|problem| (document, problem));
    let wrong = evidence.documents.iter().filter_map(wrong);
    wrong
        .map(|(document, problem)| {
            let message = format!("{problem}: {}", describe(document));
            evidence.failure(Class::MisRecord, "hosts", message, String::new())
        })
        .collect()
}

fn wrong(evidence: &Evidence<'_>, document: &Value) -> Option<String> {
    for name in ["src_ip", "dst_ip", "actual_dst_ip"] {
        let written = text(document, name);
        if !written.is_empty()
            && written.parse::<IpAddr>().map(|ip| ip.to_canonical().to_string()).as_deref() != Ok(written)
        {
            return Some(format!("{name} is {written:?}, which is not how an address is written"));
        }
    }
    let ip = text(document, "dst_ip").parse::<IpAddr>().ok()?;
    let scenario = &evidence.cell.scenario;
    let (name, ambiguous) = (text(document, "dst_host"), attribute(document, "dst_host_ambiguous") == true);
    if !name.is_empty() && !scenario.host(name).is_some_and(|host| host.addr.contains(&ip)) {
        return Some(format!("{name:?} does not lead to {ip}"));
    }
    let leading = scenario.hosts.values().filter(|host| host.addr.contains(&ip)).count();
    (ambiguous && leading < 2)
        .then(|| format!("only {leading} name(s) lead to {ip}, and it is called ambiguous"))
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn names_and_addresses_are_those_of_the_case() {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        let mut told = |name: &str, value: Value| {
            let mut document = sample::document();
            document["attributes"][name] = value;
            evidence.documents = vec![document];
            judge(&evidence).len()
        };
        assert_eq!(told("dst_host", "api.test".into()), 0);
        assert_eq!(told("dst_host", "other.test".into()), 1);
        assert_eq!(told("dst_host_ambiguous", false.into()), 0);
        assert_eq!(told("dst_host_ambiguous", true.into()), 1);
        assert_eq!(told("src_ip", "2001:db8::2".into()), 0);
        assert_eq!(told("src_ip", "::ffff:192.0.2.2".into()), 1);
        assert_eq!(told("src_ip", "2001:DB8:0::2".into()), 1);
    }
}
