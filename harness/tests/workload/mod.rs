//! Random cases: what agents do, what goes wrong meanwhile, and what must come of it. What that is, the naive model
//! says; nothing of what ships is asked.

mod attempt;
mod scenario;
mod script;

use proptest::{collection::vec, prelude::*, sample::subsequence};

pub use attempt::Attempt;
pub use script::Script;

/// Most agents of a case.
const MOST_AGENTS: usize = 3;

/// A case before it is written down.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How many agents; what is said of another is of one of them.
    pub agents: usize,
    /// Bytes of the ring, where they are not the usual.
    pub ring: Option<u32>,
    /// Indexes into [`scenario::RULES`].
    pub rules: Vec<usize>,
    /// What happens, in order.
    pub blocks: Vec<Block>,
}

/// A part of a case, which can be left out without changing what the others mean.
#[derive(Clone, Debug)]
pub enum Block {
    /// One after the other.
    Acts(Vec<Attempt>),
    /// At the same time, while something goes wrong.
    Together(Vec<Attempt>, Option<&'static str>),
    /// While the endpoint answers something else.
    Answered(&'static str, Vec<Attempt>),
    /// Something goes wrong.
    Disturbed(&'static str),
    /// The operator switches bypass of an agent.
    Bypass(usize, bool),
    /// The operator replaces the rules of an agent.
    Rules(usize, Vec<usize>),
    /// The container of an agent is replaced.
    Recreated(usize),
}

/// What can go wrong at any time, as `action: value`.
const DISTURBANCES: [&str; 4] =
    ["restart: reader", "stop: reader for 300ms", "stop: endpoint for 300ms", "stop: endpoint for 1s"];
/// What the endpoint may answer instead of accepting.
const ANSWERS: [&str; 4] = ["slow", "internal", "partial", "reject"];

/// Any case.
pub fn any() -> impl Strategy<Value = Workload> {
    let ring = prop_oneof![2 => Just(None), 1 => Just(Some(4096)), 1 => Just(Some(65_536))];
    (1..=MOST_AGENTS, ring, rules(), vec(block(), 2..7))
        .prop_map(|(agents, ring, rules, blocks)| Workload { agents, ring, rules, blocks })
        // The others need no lab of their own, and are what the scenarios are full of.
        .prop_filter("nothing goes wrong", Workload::disturbs)
        .prop_filter("nobody attempts anything", |workload| !Script::of(workload).wire.is_empty())
}

fn rules() -> impl Strategy<Value = Vec<usize>> {
    let all: Vec<usize> = (0..scenario::RULES.len()).collect();
    subsequence(all, 0..=scenario::RULES.len())
}

fn block() -> impl Strategy<Value = Block> {
    let disturbance = || proptest::sample::select(&DISTURBANCES[..]);
    let one = || vec(attempt::any_of(MOST_AGENTS), 1..4);
    let several = vec(attempt::any_at_once(MOST_AGENTS), 2..5);
    prop_oneof![
        4 => one().prop_map(Block::Acts),
        3 => (several, proptest::option::of(disturbance())).prop_map(|(acts, fault)| Block::Together(acts, fault)),
        2 => (proptest::sample::select(&ANSWERS[..]), one()).prop_map(|(answer, acts)| Block::Answered(answer, acts)),
        2 => disturbance().prop_map(Block::Disturbed),
        1 => (0..MOST_AGENTS, proptest::bool::ANY).prop_map(|(agent, on)| Block::Bypass(agent, on)),
        1 => (0..MOST_AGENTS, rules()).prop_map(|(agent, rules)| Block::Rules(agent, rules)),
        1 => (0..MOST_AGENTS).prop_map(Block::Recreated),
    ]
}

impl Block {
    /// Whether the endpoint refuses some records for good. One that refuses all is out of order.
    fn rejects(&self) -> bool {
        matches!(self, Self::Answered("partial", _))
    }
}

impl Workload {
    /// Whether anything is done to the chain.
    fn disturbs(&self) -> bool {
        let disturbs = |block: &Block| {
            matches!(block, Block::Together(_, Some(_)) | Block::Answered(..) | Block::Disturbed(_))
        };
        self.ring.is_some() || self.blocks.iter().any(disturbs)
    }

    /// Whether the chain may lose something, and must say so.
    fn may_lose(&self) -> bool {
        self.blocks.iter().any(Block::rejects)
    }
}
