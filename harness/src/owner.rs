//! Whose something is that outlives a process: everything that a run makes is named after its process.
//!
//! A process id alone is used again, so the name carries the time at which the process started too.

use std::{fmt, fs, str::FromStr, sync::OnceLock};

/// A process, for as long as the machine runs. Written `<pid>_<start>`: bpffs refuses a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

/// A text that names no owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not `<pid>_<start>`")]
pub struct NoOwner;

impl Owner {
    /// This process.
    ///
    /// # Panics
    /// Without /proc, where nothing that is made could be found again.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Owner> = OnceLock::new();
        *CURRENT.get_or_init(|| Self::of(std::process::id()).expect("/proc tells when this process started"))
    }

    /// The process that has this id now; `None` if there is none that could still own anything.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start: start(&stat)? })
    }

    /// Whether it has ended.
    pub fn is_dead(self) -> bool {
        Self::of(self.pid) != Some(self)
    }
}

/// Field 22 of `/proc/<pid>/stat`; `None` for a process that ended and is not reaped. The second field is the
/// process's own choice, so the fields are counted from its closing parenthesis.
fn start(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.pid, self.start)
    }
}

impl FromStr for Owner {
    type Err = NoOwner;

    fn from_str(text: &str) -> Result<Self, NoOwner> {
        let (pid, start) = text.split_once('_').ok_or(NoOwner)?;
        let owner = Self { pid: pid.parse().or(Err(NoOwner))?, start: start.parse().or(Err(NoOwner))? };
        // One owner, one text.
        if owner.to_string() == text { Ok(owner) } else { Err(NoOwner) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_its_id_and_its_start() {
        let me = Owner::current();
        assert!(!me.is_dead());
        assert!(Owner { start: me.start - 1, ..me }.is_dead(), "an id that was used again");
        assert!(Owner { pid: u32::MAX, ..me }.is_dead());
        assert_eq!(me.to_string().parse(), Ok(me));
        for text in ["", "7", "7_", "_7", "7_8_9", "+7_8", "07_8", "a_b"] {
            assert_eq!(text.parse::<Owner>(), Err(NoOwner), "{text}");
        }
    }

    #[test]
    fn a_process_may_be_called_anything() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start(&format!("9 (a) R 1 (b) {rest}")), Some(4711));
        assert_eq!(start(&format!("9 (a) {}", rest.replacen('S', "Z", 1))), None);
        assert_eq!(start("9"), None);
    }
}
