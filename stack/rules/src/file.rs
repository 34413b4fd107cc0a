//! A file of rules: a YAML list, or a mapping with a `rules` list.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use serde_saphyr::{Location, Spanned};

use crate::Rule;

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is no list of rules.
    #[error("{path}: {problem}", path = path.display())]
    Rules {
        /// Which.
        path: PathBuf,
        /// With line and column.
        problem: String,
    },
}

/// Reads a file of rules.
///
/// # Errors
/// If it cannot be read, is not such a list, or holds a rule that cannot be.
pub fn read(path: &Path) -> Result<Vec<Rule>, Error> {
    let text = fs::read_to_string(path).map_err(|cause| Error::File { path: path.to_owned(), cause })?;
    parse(&text).map_err(|problem| Error::Rules { path: path.to_owned(), problem })
}

/// Understands the text of such a file.
///
/// # Errors
/// What is wrong with it, with line and column.
pub fn parse(text: &str) -> Result<Vec<Rule>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mapping {
        rules: Vec<Spanned<Rule>>,
    }
    // Which of the two is meant is asked first: the error is then that of what the person wrote.
    let is_mapping = yaml::<HashMap<String, IgnoredAny>>(text).is_ok();
    let rules = if is_mapping { yaml(text).map(|Mapping { rules }| rules) } else { yaml(text) };
    let (rules, places): (Vec<Rule>, Vec<Location>) = rules
        .map_err(|error| error.to_string())?
        .into_iter()
        .map(|Spanned { value, referenced, .. }| (value, referenced))
        .unzip();
    let Some((number, problem)) = Rule::without_effect(&rules) else { return Ok(rules) };
    let place = places
        .get(number)
        .map_or_else(String::new, |place| format!(" at line {}, column {}", place.line(), place.column()));
    Err(format!("{problem}{place}"))
}

/// The message has line and column; a snippet would repeat it.
fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_a_mapping_are_the_same_file() {
        let list = "- {dst: a.test, proto: tcp, port: 1-2}\n";
        let rules = parse(list).expect("a list");
        assert_eq!(parse(&format!("rules:\n  {list}")).expect("a mapping"), rules);
    }

    #[test]
    fn a_slip_is_told_once_and_where_it_is() {
        for (text, line, told) in [
            ("- {dst: a.test, prot: tcp}", 1, "`prot`"),
            ("rules: [{dst: a.test, prot: tcp}]", 1, "`prot`"),
            (
                "rules:\n  - {dst: a.test, proto: https}\n  - {dst: b.test, proto: tcp}\n",
                3,
                "proto tcp needs a port",
            ),
            ("- dst: a.test\n  proto: https\n- dst: a b\n  proto: https\n", 3, "`a b` is not a domain name"),
            ("- dst: a.test\n  proto: tcp\n  port: 9-8\n", 3, "ports 9-8"),
            ("rules: [{dst: a.test, proto: https}]\nrule: []\n", 2, "`rule`"),
            (
                "- {dst: a.test, proto: https}\n- dst: a.test\n  proto: https\n  path_rules: [{path: /b, action: deny}]\n",
                2,
                "its path rules have no effect",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(&format!("line {line}")), "{text}: {error}");
            assert_eq!(error.matches(told).count(), 1, "{text}: {error}");
        }
    }
}
