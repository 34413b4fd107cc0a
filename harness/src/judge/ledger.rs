//! The ledger's equations, exactly: per container, at the kernel and from there to the store; and that the reader
//! counts what its documents say was lost.

use super::evidence::{AgentEvidence, Evidence, number, text};
use crate::{
    event::{Class, Failure},
    scenario::types::{LedgerExpectation, Losses},
};

/// Closes the ledger of every container.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let expect = &evidence.cell.scenario.expect;
    if expect.ledger == LedgerExpectation::Any {
        return Vec::new();
    }
    let accounts: Vec<Account> = evidence.agents.iter().map(|agent| Account::of(evidence, agent)).collect();
    let mut failures: Vec<Failure> = accounts.iter().filter_map(|account| account.close(evidence)).collect();
    failures.extend(behind_the_ring(evidence, &accounts));
    failures.extend(counted(evidence));
    if expect.losses == Losses::None && evidence.lost() > 0 {
        let message = format!("{} attempt(s) were lost, though accounted for", evidence.lost());
        failures.push(evidence.failure(Class::Expectation, "expect.losses", message, losses(evidence)));
    }
    failures
}

/// What is known of one container's attempts.
struct Account<'e> {
    agent: &'e AgentEvidence,
    /// Attempts that its processes say they made, where nothing else made any.
    made: Option<u64>,
    /// Attempts that documents stand for, each event counted once.
    documented: u64,
    /// Attempts that documents say were lost.
    lost: u64,
}

impl<'e> Account<'e> {
    fn of(evidence: &Evidence<'_>, agent: &'e AgentEvidence) -> Self {
        let own = |document: &&serde_json::Value| number(document, "cgroup_id") == agent.cgroup_id;
        let documents = evidence.documents.iter().chain(&evidence.sentinels).filter(own);
        Self {
            agent,
            made: made(evidence, agent),
            documented: documents.map(|document| number(document, "event_count")).sum(),
            lost: evidence.losses.iter().filter(own).map(|loss| number(loss, "event_count")).sum(),
        }
    }

    /// Attempts that the kernel handed over and no document of this container tells of.
    fn missing(&self) -> u64 {
        self.handed_over().saturating_sub(self.documented + self.lost)
    }

    /// Attempts that the kernel handed to the reader: in the ring, or as counts.
    const fn handed_over(&self) -> u64 {
        self.agent.ledger.submitted + self.agent.ledger.folded
    }

    /// The first equation that does not hold, of those that are the container's own. It is written here, and
    /// nowhere else:
    ///
    ///     attempts made = denied + opened
    ///     opened        = closed (nothing is open at the end)
    ///     denied + closed = submitted + folded
    ///     submitted + folded = documented + lost (+ what an answer rejected without saying whose it was)
    fn close(&self, evidence: &Evidence<'_>) -> Option<Failure> {
        let Self { agent, documented, lost, .. } = *self;
        let ledger = &agent.ledger;
        let (denied, opened, closed, handed_over) =
            (ledger.denied, ledger.opened, ledger.closed, self.handed_over());
        let counted = denied + opened;
        let made = self.made.map(|made| made + agent.sentinels);
        let (class, problem) = if made.is_some_and(|made| counted < made) {
            (Class::Lost, "the hooks did not count every attempt".to_owned())
        } else if made.is_some_and(|made| counted > made) {
            (Class::MisRecord, "the hooks counted more than was attempted".to_owned())
        } else if closed > opened {
            (Class::MisRecord, "more flows ended than began".to_owned())
        } else if denied + closed > handed_over {
            (Class::Lost, "attempts vanished before the ring".to_owned())
        } else if denied + closed < handed_over {
            (Class::MisRecord, "more was handed to the ring than was attempted".to_owned())
        } else if documented + lost > handed_over {
            (Class::MisRecord, "more is documented than was handed to the ring".to_owned())
        } else if closed < opened {
            let open = opened - closed;
            (Class::Expectation, format!("{open} flow(s) are open after every process has ended"))
        } else {
            return None;
        };
        let message = format!("the ledger of agent {:?} does not close: {problem}", agent.agent);
        Some(evidence.failure(class, "expect.ledger", message, self.words()))
    }

    fn words(&self) -> String {
        let ledger = &self.agent.ledger;
        let made = self.made.map_or_else(String::new, |made| format!("attempted {made} · "));
        format!(
            "{made}denied {} · opened {} · closed {} · submitted {} · folded {} · documented {} · lost {}; \
             sentinels among them: {}",
            ledger.denied,
            ledger.opened,
            ledger.closed,
            ledger.submitted,
            ledger.folded,
            self.documented,
            self.lost,
            self.agent.sentinels
        )
    }
}

/// Attempts that floods made, where a container's every step is a flood to an address: a look-up is more.
fn made(evidence: &Evidence<'_>, agent: &AgentEvidence) -> Option<u64> {
    let own = |index: usize| evidence.agents.get(index).is_some_and(|own| own.cgroup_id == agent.cgroup_id);
    let mut fired = evidence.fired.iter().filter(|fired| own(fired.agent)).peekable();
    fired.peek()?;
    fired
        .map(|fired| {
            let flood = evidence.cell.step(&fired.path)?.flood.as_ref()?;
            let direct = flood.to.parse::<std::net::SocketAddr>().is_ok();
            (direct && fired.report.outcome != "timeout").then_some(fired.report.attempts)
        })
        .sum()
}

/// Whether what is missing is what was lost of containers that the endpoint's answer did not tell apart.
fn behind_the_ring(evidence: &Evidence<'_>, accounts: &[Account<'_>]) -> Option<Failure> {
    let missing: u64 = accounts.iter().map(Account::missing).sum();
    let unowned = evidence.lost().saturating_sub(accounts.iter().map(|account| account.lost).sum());
    if missing == unowned {
        return None;
    }
    let mut short = accounts.iter().filter(|account| account.missing() > 0);
    let whose = match (short.next(), short.next()) {
        (Some(one), None) => format!("the ledger of agent {:?} does not close", one.agent.agent),
        _ => "the ledger does not close".to_owned(),
    };
    let (class, problem) = if missing > unowned {
        let vanished = missing - unowned;
        (Class::Lost, format!("{vanished} attempt(s) vanished between the ring and the store"))
    } else {
        (Class::MisRecord, format!("{} more are said to be lost than are missing", unowned - missing))
    };
    let mut lines: Vec<String> = accounts.iter().map(Account::words).collect();
    lines.extend((!evidence.losses.is_empty()).then(|| losses(evidence)));
    Some(evidence.failure(class, "expect.ledger", format!("{whose}: {problem}"), lines.join("\n")))
}

/// Whether the reader counts what the documents say was lost, where all that it counts is of these containers.
fn counted(evidence: &Evidence<'_>) -> Option<Failure> {
    let reader = evidence.reader.as_ref().filter(|_| evidence.alone)?;
    let counted: u64 = reader.losses.values().sum();
    let documented = evidence.lost();
    (counted != documented).then(|| {
        let message = format!("the reader counts {counted} attempt(s) as lost, documents say {documented}");
        evidence.failure(Class::MisRecord, "expect.ledger", message, losses(evidence))
    })
}

/// The losses, by their points.
fn losses(evidence: &Evidence<'_>) -> String {
    let words = evidence
        .losses
        .iter()
        .map(|loss| format!("{} {}", text(loss, "loss_point"), number(loss, "event_count")));
    format!("lost: {}", words.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};
    use crate::lab::ReaderCounters;

    fn told(change: impl FnOnce(&mut Evidence<'_>)) -> Vec<(Class, String)> {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        let mut sentinel = sample::document();
        sentinel["attributes"]["verdict"] = "DENIED".into();
        evidence.documents = vec![sample::document()];
        evidence.sentinels = vec![sentinel];
        change(&mut evidence);
        judge(&evidence).into_iter().map(|failure| (failure.class, failure.message)).collect()
    }

    fn only(failures: &[(Class, String)]) -> (Class, &str) {
        let [(class, message)] = failures else { panic!("{failures:?}") };
        (*class, message.as_str())
    }

    #[test]
    fn every_hop_is_told_from_the_others() {
        assert_eq!(told(|_| {}), []);
        let case = |change: fn(&mut Evidence<'_>), class, words: &str| {
            let failures = told(change);
            let (found, message) = only(&failures);
            assert!(found == class && message.contains(words), "{found}: {message}");
        };
        case(|evidence| evidence.agents[0].ledger.closed = 2, Class::MisRecord, "more flows ended");
        case(|evidence| evidence.agents[0].ledger.denied = 2, Class::Lost, "before the ring");
        case(|evidence| evidence.agents[0].ledger.denied = 0, Class::MisRecord, "more was handed");
        case(|evidence| evidence.documents.clear(), Class::Lost, "1 attempt(s) vanished between the ring");
        case(|evidence| evidence.documents.push(sample::document()), Class::MisRecord, "more is documented");
        case(
            |evidence| {
                let ledger = &mut evidence.agents[0].ledger;
                (ledger.opened, ledger.closed, ledger.submitted) = (2, 1, 2);
            },
            Class::Expectation,
            "1 flow(s) are open",
        );
    }

    #[test]
    fn a_loss_closes_the_ledger_and_must_be_permitted() {
        let rejected = |documented: u64, counted: u64| {
            told(|evidence| {
                evidence.documents.clear();
                evidence.alone = true;
                let mut loss = sample::document();
                loss["attributes"]["event_count"] = documented.into();
                evidence.losses = vec![loss];
                let losses = [("backend_rejected".to_owned(), counted)].into();
                evidence.reader = Some(ReaderCounters { losses, ..ReaderCounters::default() });
            })
        };
        let failures = rejected(1, 1);
        assert_eq!(only(&failures), (Class::Expectation, "1 attempt(s) were lost, though accounted for"));
        assert_eq!(rejected(2, 2)[0].0, Class::MisRecord, "one more than is missing");
        assert_eq!(rejected(0, 1)[0].0, Class::Lost, "a count is no document");
        assert_eq!(rejected(1, 2)[0].0, Class::MisRecord, "one was not documented");
        let of = |cgroup_id: u64, event_count: u64| {
            told(|evidence| {
                evidence.documents.clear();
                let mut loss = sample::document();
                loss["attributes"]["cgroup_id"] = cgroup_id.into();
                loss["attributes"]["event_count"] = event_count.into();
                evidence.losses = vec![loss];
            })
        };
        assert_eq!(only(&of(0, 1)).0, Class::Expectation, "whose it was, the answer did not say");
        assert_eq!(of(0, 2)[0].0, Class::MisRecord, "two, of which one is missing");
    }

    #[test]
    fn what_a_flood_attempted_is_what_was_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("case.yaml");
        let text = "name: a flood\nagent: {agent: scout}\n\
            steps: [{flood: {to: \"198.51.100.7:9\", count: 5}, outcome: EPERM}]\nexpect: {}\n";
        std::fs::write(&file, text).expect("a file");
        let cell = crate::scenario::load(&file).expect("the case is right").remove(0);
        let told = |denied: u64| {
            let mut evidence = sample::evidence(&cell);
            evidence.fired[0].report.attempts = 5;
            let ledger = &mut evidence.agents[0].ledger;
            (ledger.denied, ledger.opened, ledger.closed, ledger.submitted) = (denied, 0, 0, denied);
            let mut document = sample::document();
            document["attributes"]["event_count"] = denied.into();
            evidence.documents = vec![document];
            judge(&evidence).into_iter().map(|failure| failure.class).collect::<Vec<_>>()
        };
        // With the sentinel.
        assert_eq!(told(6), []);
        assert_eq!(told(5), [Class::Lost]);
        assert_eq!(told(7), [Class::MisRecord]);
    }
}
