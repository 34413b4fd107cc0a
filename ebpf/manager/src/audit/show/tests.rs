//! The text to the letter: `audit.expected`. `UPDATE_GOLDEN=1` writes it anew; read the difference before it is
//! committed.

use std::{collections::BTreeMap, env, fs, path::Path};

use super::*;
use crate::audit::{Counts, Interval};

fn account(owner: Owner, counts: Counts) -> Account {
    let residuals: BTreeMap<Hop, Interval> =
        Hop::ALL.iter().map(|hop| (*hop, Interval::of_container(*hop, [&counts; 3], 0))).collect();
    Account::new(owner, counts, residuals)
}

fn container(cgroup_id: u64, agent: &str, retired: bool) -> Owner {
    let (container_id, project) = (format!("c{cgroup_id}"), "demo".to_owned());
    Owner::Container { cgroup_id, container_id, agent: agent.to_owned(), project, retired }
}

#[test]
fn what_is_closed_is_one_line_and_what_is_open_says_where() {
    let quiet = Counts {
        denied: 3,
        opened: 2,
        closed: 1,
        open: 1,
        submitted: 4,
        records: 4,
        answered: 4,
        stored: 4,
        ..Counts::default()
    };
    let swallowed =
        Counts { denied: 6, submitted: 6, records: 3, answered: 3, stored: 3, ..Counts::default() };
    let mut sum = quiet;
    sum.add(&swallowed);
    let audit = Audit {
        closed: false,
        foreign_documents: Some(2),
        containers: vec![
            account(container(4711, "scout", false), quiet),
            account(container(4712, "two\nlines", true), swallowed),
        ],
        sum: account(Owner::All, sum),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/audit/show/audit.expected");
    let actual = format!("{audit}\n");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &actual).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), actual);
}
