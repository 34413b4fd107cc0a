//! What is there beside what should be there.

use serde_json::{Map, Value};

/// The most differences that are told.
const TOLD: usize = 8;

/// What `there` has another than `wanted`, by its path.
pub(super) fn differences(wanted: &Value, there: &Value) -> Vec<String> {
    let mut all = Vec::new();
    collect(wanted, there, "", &mut all);
    let more = all.len().saturating_sub(TOLD);
    all.truncate(TOLD);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all
}

fn collect(wanted: &Value, there: &Value, path: &str, all: &mut Vec<String>) {
    if wanted == there {
        return;
    }
    let (Value::Object(wanted), Value::Object(there)) = (wanted, there) else {
        all.push(format!("{path}: {wanted} is {there}"));
        return;
    };
    let inside = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, wanted) in wanted {
        match there.get(key) {
            Some(there) => collect(wanted, there, &inside(key), all),
            None => all.push(format!("{} is missing", inside(key))),
        }
    }
    for key in there.keys().filter(|key| !wanted.contains_key(*key)) {
        all.push(format!("{} is new", inside(key)));
    }
}

/// Whether all of `wanted` is in `there`, which may say more.
pub(super) fn contains(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| there.get(key).is_some_and(|there| contains(there, wanted)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| contains(there, wanted))
        }
        _ => there == wanted,
    }
}

/// What an index's mapping has to be told, and what it cannot be told any more.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Gap {
    /// Properties that it does not have, as a mapping has them.
    pub missing: Map<String, Value>,
    /// Names of those.
    pub names: Vec<String>,
    /// Properties that it has otherwise, and how.
    pub differs: Vec<String>,
}

impl Gap {
    /// Between two mappings, or two objects in them.
    pub fn between(wanted: &Value, there: &Value) -> Self {
        let mut gap = Self::default();
        gap.missing = gap.fill(wanted, there, "");
        gap
    }

    fn fill(&mut self, wanted: &Value, there: &Value, path: &str) -> Map<String, Value> {
        let properties =
            |of: &Value| of.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let (wanted, there) = (properties(wanted), properties(there));
        let mut missing = Map::new();
        for (name, wanted) in wanted {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let Some(there) = there.get(&name) else {
                self.names.push(path);
                missing.insert(name, wanted);
                continue;
            };
            let is_object = |of: &Value| of.get("properties").is_some();
            if is_object(&wanted) && is_object(there) {
                let inside = self.fill(&wanted, there, &path);
                if !inside.is_empty() {
                    missing.insert(name, serde_json::json!({"properties": inside}));
                }
            } else if wanted != *there {
                self.differs
                    .extend(differences(&wanted, there).into_iter().map(|how| format!("{path}.{how}")));
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gap_has_what_can_be_added_and_what_cannot_be_changed() {
        let wanted = json!({"properties": {
            "new": {"type": "ip"},
            "same": {"type": "long"},
            "level": {"properties": {"new": {"type": "date"}, "other": {"type": "keyword", "ignore_above": 9}}},
        }});
        let there = json!({"dynamic": "strict", "properties": {
            "same": {"type": "long"},
            "level": {"properties": {"other": {"type": "long"}}},
            "somebody's": {"type": "long"},
        }});
        let gap = Gap::between(&wanted, &there);
        let missing = json!({"new": {"type": "ip"}, "level": {"properties": {"new": {"type": "date"}}}});
        assert_eq!(Value::Object(gap.missing), missing);
        let mut names = gap.names;
        names.sort();
        assert_eq!(names, ["level.new", "new"]);
        let mut differs = gap.differs;
        differs.sort();
        assert_eq!(
            differs,
            ["level.other.ignore_above is missing", r#"level.other.type: "keyword" is "long""#]
        );
        assert_eq!(Gap::between(&wanted, &wanted), Gap::default());
    }

    #[test]
    fn more_than_was_wanted_is_contained() {
        let there = json!({"a": [{"b": 1, "c": 2}], "d": 3});
        assert!(contains(&there, &json!({"a": [{"b": 1}]})));
        for wanted in [json!({"a": []}), json!({"a": [{"b": 2}]}), json!({"e": null})] {
            assert!(!contains(&there, &wanted), "{wanted}");
        }
    }
}
