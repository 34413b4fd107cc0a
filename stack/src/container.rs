//! A container, as the proxy and the resolver know it.

use std::{collections::HashMap, net::IpAddr};

use rules::Rule;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};

/// What is told of a container: by its address the proxy knows it, by its labels its documents do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Docker's identifier, or whatever else is unique. In a file it is one that files can be named after.
    #[serde(deserialize_with = "identifier")]
    pub container_id: String,
    /// Label `dev.clawker.agent`, byte for byte.
    pub agent: String,
    /// Label `dev.clawker.project`, byte for byte.
    pub project: String,
    /// Its addresses in the network that it shares with the proxy.
    pub addresses: Vec<IpAddr>,
    /// What it may reach.
    pub rules: Vec<Rule>,
}

impl Container {
    /// The container label whose value is [`agent`](Self::agent).
    pub const AGENT_LABEL: &str = "dev.clawker.agent";
    /// The container label whose value is [`project`](Self::project).
    pub const PROJECT_LABEL: &str = "dev.clawker.project";
}

/// Understands the text of a file of containers: a YAML list, or a mapping with a `containers` list.
///
/// # Errors
/// What is wrong with it, with line and column.
pub fn containers(text: &str) -> Result<Vec<Container>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mapping {
        containers: Vec<Container>,
    }
    // Which of the two is meant is asked first: the error is then that of what the person wrote.
    let is_mapping = yaml::<HashMap<String, IgnoredAny>>(text).is_ok();
    let containers =
        if is_mapping { yaml(text).map(|Mapping { containers }| containers) } else { yaml(text) };
    let containers: Vec<Container> = containers.map_err(|error| error.to_string())?;
    for (number, container) in containers.iter().enumerate() {
        let id = &container.container_id;
        if containers.iter().take(number).any(|before| before.container_id == *id) {
            return Err(format!("the container {id} is listed twice"));
        }
        if let Some((_, problem)) = Rule::without_effect(&container.rules) {
            return Err(format!("the container {id}: {problem}"));
        }
    }
    Ok(containers)
}

/// The message has line and column; a snippet would repeat it.
fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false })
}

fn identifier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.len() <= 128 && id.chars().all(fits) {
        return Ok(id);
    }
    Err(D::Error::custom(format!(
        "`{id}` is no container_id: up to 128 of A-Z a-z 0-9 - _ . which begin with a letter or digit"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_a_mapping_are_the_same_file() {
        let list = "- container_id: one\n  agent: scout\n  project: demo\n  addresses: [198.18.0.130]\n  rules:\n  - {dst: a.test, proto: https}\n";
        let read = containers(list).expect("a list");
        let rules = rules::parse("[{dst: a.test, proto: https}]").expect("rules");
        assert_eq!(read.first().map(|container| &container.rules), Some(&rules));
        let mapping =
            format!("containers:\n{}", list.replace("\n", "\n  ").replacen("- ", "  - ", 1).trim_end());
        assert_eq!(containers(&mapping).expect("a mapping"), read);
    }

    #[test]
    fn a_slip_is_told_where_it_is() {
        let one = |id: &str, rule: &str| {
            format!(
                "- container_id: {id}\n  agent: a\n  project: p\n  addresses: [198.18.0.130]\n  rules:\n  - {rule}\n"
            )
        };
        let good = "{dst: a.test, proto: https}";
        for (text, told) in [
            (one("one", "{dst: a.test, prot: https}"), "line 6"),
            (one("one", "{dst: a.test, proto: tcp}"), "proto tcp needs a port"),
            (one("../one", good), "line 1, column 17"),
            (one("one", good) + &one("one", good), "the container one is listed twice"),
            (one("one", good).replace("198.18.0.130", "198.18.0.x"), "line 4"),
            (one("one", good).replace("agent: a", "agnet: a"), "`agnet`"),
        ] {
            let error = containers(&text).expect_err(&text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
