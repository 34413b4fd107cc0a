//! Rules for the paths of HTTP requests.

use serde::{Deserialize, Serialize};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It goes on.
    #[default]
    Allow,
    /// It is answered with 403, and goes nowhere.
    Deny,
}

/// What becomes of requests for a path, and for those below it: `/v1` is about `/v1` and `/v1/keys`, not about `/v10`.
/// Of two that cover a path, the longer one decides. What is denied is denied in upper and lower case, for hosts that do not
/// tell them apart; what is allowed is allowed as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// Begins with `/`, and ends with none but its first. As it is sent once normalised.
    pub path: String,
    /// What becomes of them.
    pub action: Action,
}

impl PathRule {
    /// Why it cannot be.
    pub(crate) fn problem(&self) -> Option<String> {
        let path = &self.path;
        let told = |problem: &str| Some(format!("path `{}` {problem}", path.escape_debug()));
        if !path.starts_with('/') {
            return told("does not begin with /");
        }
        if path.len() > 1 && path.ends_with('/') {
            return told("ends with /; without it, it is about everything below, too");
        }
        if path.contains("//") || path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return told("is never asked for in this form: `//`, `.` and `..` are resolved before");
        }
        if path
            .bytes()
            .any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#' | b'%' | b';' | b'\\'))
        {
            return told(
                "has a character that a path cannot be compared by: a space, ?, #, %, ;, \\ or beyond ASCII",
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str) -> PathRule {
        PathRule { path: path.to_owned(), action: Action::Allow }
    }

    #[test]
    fn what_is_never_asked_for_is_refused() {
        for path in
            ["", "v1", "/v1/", "/a//b", "/a/../b", "/a?b", "/a%2fb", "/ä", "/a b", "/a\\b", "/a\n", "/a;x=1"]
        {
            assert!(rule(path).problem().is_some(), "{path:?}");
        }
        assert_eq!(rule("/v1/keys,x=1").problem(), None);
    }
}
