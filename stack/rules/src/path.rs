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
    /// Whether it is about `path`, which has no query.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        let below = self.path.trim_end_matches('/');
        let Some((begin, rest)) = path.split_at_checked(below.len()) else { return false };
        let begins = match self.action {
            Action::Allow => begin == below,
            Action::Deny => begin.eq_ignore_ascii_case(below),
        };
        begins && (rest.is_empty() || rest.starts_with('/'))
    }

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
    fn what_is_denied_is_denied_in_either_case() {
        let denied = PathRule { action: Action::Deny, ..rule("/Admin") };
        for path in ["/Admin", "/admin", "/ADMIN/x"] {
            assert!(denied.covers(path), "{path}");
        }
        for path in ["/admins", "/adm", "/adminä", "/ädmin"] {
            assert!(!denied.covers(path), "{path}");
        }
    }

    #[test]
    fn a_path_is_about_what_lies_below_it() {
        for (path, covered, not) in [
            ("/v1", ["/v1", "/v1/", "/v1/keys"], ["/v10", "/", "/V1"]),
            ("/", ["/", "/a", "/a/b"], ["", "a", "*"]),
        ] {
            for asked in covered {
                assert!(rule(path).covers(asked), "{path} {asked}");
            }
            for asked in not.into_iter().filter(|asked| !asked.is_empty()) {
                assert!(!rule(path).covers(asked), "{path} {asked}");
            }
        }
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
