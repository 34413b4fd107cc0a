//! An event: one declaration is the struct, what its file holds, and its OTLP attributes. What these are called and mean
//! is in `documents`.

use std::{env, fmt::Write as _};

use nix::unistd::getuid;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde::{Deserialize, Serialize};

use crate::field::{FieldValue, Moment, Words};

macro_rules! words {
    ($(#[$meta:meta])* $set:ident { $($member:ident = $word:literal: $about:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $set {
            $(#[doc = $about] #[serde(rename = $word)] $member,)+
        }

        impl $set {
            /// Every member.
            pub const ALL: &'static [Self] = &[$(Self::$member),+];

            /// Its word in documents.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$member => $word,)+
                }
            }

            /// What it says, in one line.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$member => $about,)+
                }
            }
        }
    };
}

words! {
    /// What was done, or happened.
    What {
        Loaded = "loaded": "The programs were loaded and pinned.",
        Unloaded = "unloaded": "The programs were unpinned: nothing is enforced or recorded from here on.",
        Enrolled = "enrolled": "A container's attempts are decided and recorded from here on; with its rules.",
        UnobservedAccepted = "unobserved_accepted": "A container was enrolled although its processes could go around the hooks; `detail` says how.",
        Retired = "retired": "A container's attempts are no longer decided and recorded.",
        RulesApplied = "rules_applied": "A container's rules were replaced.",
        BypassOn = "bypass_on": "A container may pass until `until`; recording goes on.",
        BypassOff = "bypass_off": "A bypass was ended by a command.",
        BypassEnded = "bypass_ended": "A bypass reached its end, which `until` says.",
        Degraded = "degraded": "A part of a program does not work; `detail` says which, and why.",
        Recovered = "recovered": "A part of a program works again.",
        RecordsLost = "records_lost": "Records of flows were lost; `event_count` says how many, and `detail` where.",
        Contradicted = "contradicted": "Enrolment and container runtime did not agree about records; `detail` says what about.",
        EventsLost = "events_lost": "Events like these were lost; `event_count` says how many, and `detail` why.",
    }
}

words! {
    /// How it ended.
    Outcome {
        Done = "done": "It was done, or it happened.",
        Refused = "refused": "It was not done: it cannot be, or not as things stand.",
        Failed = "failed": "It was not done, or not all of it: the machine failed.",
    }
}

/// Whose an event is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Raw label.
    pub agent: Option<String>,
    /// Raw label.
    pub project: Option<String>,
    /// The runtime's identifier.
    pub container_id: Option<String>,
    /// Its cgroup.
    pub cgroup_id: Option<u64>,
}

macro_rules! event {
    ($($field:ident: $value:ty,)+) => {
        /// Something that a program did, or that became of it.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct Event {
            $(#[doc = concat!("`", stringify!($field), "` of [`documents::OVERSEER`].")] pub $field: $value,)+
        }

        impl Event {
            /// The attributes that have a value.
            pub(crate) fn attributes(&self) -> Vec<KeyValue> {
                [$((stringify!($field), self.$field.value())),+]
                    .into_iter()
                    .filter_map(|(key, value)| {
                        let value = Some(AnyValue { value: Some(value?) });
                        Some(KeyValue { key: key.to_owned(), value, ..KeyValue::default() })
                    })
                    .collect()
            }
        }

        const _: () = assert!(
            documents::agree(documents::OVERSEER.fields, &[$((stringify!($field), <$value as FieldValue>::KIND),)+]),
            "the fields are not those of the table in `documents`",
        );
    };
}

event! {
    agent: Option<String>,
    project: Option<String>,
    container_id: Option<String>,
    cgroup_id: Option<u64>,
    event: What,
    outcome: Outcome,
    component: String,
    node: String,
    actor: Option<u64>,
    actor_claimed: Option<u64>,
    rules: Option<u64>,
    rules_hash: Option<String>,
    until: Option<Moment>,
    event_count: Option<u64>,
    detail: Option<Words>,
    event_id: String,
}

impl Event {
    /// That this happened. Which program tells of it, and the event's identity, are filled in when it is recorded.
    #[must_use]
    pub const fn new(event: What) -> Self {
        Self {
            agent: None,
            project: None,
            container_id: None,
            cgroup_id: None,
            event,
            outcome: Outcome::Done,
            component: String::new(),
            node: String::new(),
            actor: None,
            actor_claimed: None,
            rules: None,
            rules_hash: None,
            until: None,
            event_count: None,
            detail: None,
            event_id: String::new(),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn of(mut self, owner: Owner) -> Self {
        let Owner { agent, project, container_id, cgroup_id } = owner;
        (self.agent, self.project) = (agent, project);
        (self.container_id, self.cgroup_id) = (container_id, cgroup_id);
        self
    }

    /// That it is by whoever runs this process.
    #[must_use]
    pub fn by_caller(mut self) -> Self {
        self.actor = Some(getuid().as_raw().into());
        self.actor_claimed = env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok()).map(u64::from);
        self
    }

    /// More, for people.
    #[must_use]
    pub fn told(mut self, detail: impl AsRef<str>) -> Self {
        self.detail = Some(Words::new(detail.as_ref()));
        self
    }

    /// When what it began ends, in nanoseconds since 1970.
    #[must_use]
    pub const fn until(mut self, unix_ns: u64) -> Self {
        self.until = Some(Moment(unix_ns));
        self
    }

    /// How often.
    #[must_use]
    pub const fn times(mut self, count: u64) -> Self {
        self.event_count = Some(count);
        self
    }

    /// One line for people.
    pub(crate) fn summary(&self) -> String {
        let mut line = self.event.as_str().to_owned();
        // Writing to a string does not fail.
        if self.outcome != Outcome::Done {
            let _ = write!(line, " {}", self.outcome.as_str());
        }
        if let Some(count) = self.event_count {
            let _ = write!(line, " {count}");
        }
        if let Some(detail) = &self.detail {
            let _ = write!(line, ": {}", detail.as_ref());
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn the_page_has_every_word() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events.md");
        let page = fs::read_to_string(page).unwrap();
        let lines: BTreeSet<&str> = page.lines().collect();
        let events = What::ALL.iter().map(|what| (what.as_str(), what.about()));
        let outcomes = Outcome::ALL.iter().map(|outcome| (outcome.as_str(), outcome.about()));
        for (word, about) in events.chain(outcomes) {
            let line = format!("| `{word}` | {about} |");
            assert!(lines.contains(line.as_str()), "docs/events.md lacks\n{line}");
        }
    }

    #[test]
    fn an_attribute_without_a_value_is_left_out_and_an_empty_label_is_not() {
        let owner = Owner { agent: Some(String::new()), ..Owner::default() };
        let keys: Vec<String> =
            Event::new(What::Loaded).of(owner).attributes().into_iter().map(|pair| pair.key).collect();
        assert_eq!(keys, ["agent", "event", "outcome", "component", "node", "event_id"]);
    }

    #[test]
    fn a_line_says_what_how_and_why() {
        let mut event = Event::new(What::Enrolled).told("it is enrolled already");
        event.outcome = Outcome::Refused;
        assert_eq!(event.summary(), "enrolled refused: it is enrolled already");
        assert_eq!(Event::new(What::EventsLost).times(3).summary(), "events_lost 3");
    }
}
