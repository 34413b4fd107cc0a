//! Documents of the other streams, against what is known of the containers that they name: nobody is called otherwise than his
//! container, and nothing passed by a bypass that was never on.

use serde_json::Value;

use super::evidence::{Evidence, text};
use crate::event::{Class, Failure};

/// What is wrong in each of them, whether or not an expectation is of it.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let documents = evidence
        .streams
        .iter()
        .flat_map(|(stream, documents)| documents.iter().map(move |document| (stream.as_str(), document)));
    documents.filter_map(|(stream, document)| wrong(evidence, stream, document)).collect()
}

fn wrong(evidence: &Evidence<'_>, stream: &str, document: &Value) -> Option<Failure> {
    let id = text(document, "container_id");
    let agent = evidence.agents.iter().find(|agent| agent.container_id == id)?;
    let (label, project) = (text(document, "agent"), text(document, "project"));
    let message = if (label, project) != (&agent.agent, &agent.project) {
        format!(
            "a document of {stream} is of the container of {:?} of {:?}, and says {label:?} of {project:?}",
            agent.agent, agent.project
        )
    } else if text(document, "verdict") == "BYPASSED" && agent.bypass.is_empty() {
        format!("a document of {stream} is BYPASSED, and {label:?} never had a bypass")
    } else {
        return None;
    };
    Some(Failure { class: Class::MisRecord, message, detail: format!("    {}", document["attributes"]) })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;

    use super::*;
    use crate::judge::{evidence::Window, sample};

    #[test]
    fn each_slip_of_a_server_is_told() {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        let mut judged = |agent: &str, verdict: &str, id: &str, has_bypass: bool| {
            let document = json!({"attributes": {"agent": agent, "project": "demo", "verdict": verdict, "container_id": id}});
            evidence.streams.insert("clawker-coredns".to_owned(), vec![document]);
            let now = SystemTime::now();
            let window = Window { from: (now, now), until: None, what: () };
            evidence.agents[0].bypass = if has_bypass { vec![window] } else { Vec::new() };
            judge(&evidence).into_iter().map(|failure| failure.message).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(judged("scout", "ALLOWED", "w0-7", false), "");
        assert_eq!(judged("scout", "BYPASSED", "w0-7", true), "");
        // Nobody's is not this one's to judge.
        assert_eq!(judged("", "DENIED", "", false), "");
        assert!(judged("scout", "BYPASSED", "w0-7", false).contains("never had a bypass"));
        assert!(judged("thief", "ALLOWED", "w0-7", false).contains("says \"thief\""));
    }
}
