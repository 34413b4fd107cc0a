//! What an agent's own call must return.

use std::fmt;

use nix::errno::Errno;

/// The outcome of a step, as the agent itself sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepOutcome {
    /// Every call returned what was asked.
    #[default]
    Ok,
    /// The call failed with this error.
    Errno(Errno),
    /// The resolver answered that the name does not exist.
    Nxdomain,
    /// The resolver answered that the name has no address.
    Nodata,
    /// The program ended with this code.
    Exit(u8),
}

/// A text that is no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an outcome: `ok`, the name of an error such as `EPERM`, `NXDOMAIN`, `NODATA`, or `exit 7`"
)]
pub struct UnknownOutcome(pub String);

impl std::str::FromStr for StepOutcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        let unknown = || UnknownOutcome(text.to_owned());
        match text {
            "ok" => Ok(Self::Ok),
            "NXDOMAIN" => Ok(Self::Nxdomain),
            "NODATA" => Ok(Self::Nodata),
            _ => match text.strip_prefix("exit ") {
                Some(code) => code.parse().map(Self::Exit).map_err(|_| unknown()),
                None => {
                    errnos().find(|(name, _)| name == text).map(|(_, e)| Self::Errno(e)).ok_or_else(unknown)
                }
            },
        }
    }
}

impl fmt::Display for StepOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Errno(errno) => write!(f, "{errno:?}"),
            Self::Nxdomain => f.write_str("NXDOMAIN"),
            Self::Nodata => f.write_str("NODATA"),
            Self::Exit(code) => write!(f, "exit {code}"),
        }
    }
}

/// Linux's errors by name: `EPERM` and so on.
pub(crate) fn errnos() -> impl Iterator<Item = (String, Errno)> {
    const LAST: i32 = 133;
    (1..=LAST)
        .map(Errno::from_raw)
        .filter(|errno| *errno != Errno::UnknownErrno)
        .map(|errno| (format!("{errno:?}"), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_back() {
        for text in [
            "ok",
            "EPERM",
            "ETIMEDOUT",
            "ECONNREFUSED",
            "EHWPOISON",
            "NXDOMAIN",
            "NODATA",
            "exit 0",
            "exit 255",
        ] {
            assert_eq!(text.parse::<StepOutcome>().unwrap().to_string(), text);
        }
        for text in ["", "OK", "eperm", "exit", "exit 256", "exit -1", "EPERN", "UnknownErrno"] {
            assert!(text.parse::<StepOutcome>().is_err(), "{text}");
        }
    }
}
