//! The command line. By hand: the gate is in every container, and is small.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// What the command line can say.
pub const USAGE: &str =
    "usage: clawker-gate [--ready FOLDER] [--cgroups FOLDER] [--timeout SECONDS] -- PROGRAM [ARGUMENTS…]
  --ready FOLDER     the manager's folder `ready`, mounted read-only; default /run/clawker/ready
  --cgroups FOLDER   where the cgroup v2 hierarchy is mounted; default /sys/fs/cgroup
  --timeout SECONDS  how long to wait for the enrolment; default 60
exit codes: 124 not enrolled in time, 125 misused, 126 and 127 as shells have them; else the program's own";

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub ready: PathBuf,
    pub cgroups: PathBuf,
    pub timeout: Duration,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

/// Reads the arguments after the program's own name.
pub fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let (mut ready, mut cgroups, mut timeout) =
        (PathBuf::from("/run/clawker/ready"), PathBuf::from("/sys/fs/cgroup"), Duration::from_secs(60));
    loop {
        let word = words.next().ok_or("no program is named")?;
        let mut value = || words.next().ok_or_else(|| format!("{} needs a value", word.display()));
        match word.to_str() {
            Some("--") => break,
            Some("--ready") => ready = value()?.into(),
            Some("--cgroups") => cgroups = value()?.into(),
            Some("--timeout") => {
                let text = value()?;
                let seconds = text.to_str().and_then(|text| text.parse().ok());
                timeout = Duration::from_secs(
                    seconds.ok_or_else(|| format!("{} is no number of seconds", text.display()))?,
                );
            }
            _ => return Err(format!("{} is not known; what is to be run comes after --", word.display())),
        }
    }
    let program = words.next().ok_or("no program is named after --")?.into();
    Ok(Options { ready, cgroups, timeout, program, arguments: words.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn what_comes_after_the_dashes_is_the_program_s() {
        let options = parsed("--timeout 5 --ready /r -- run --ready x --").unwrap();
        assert_eq!((options.ready, options.timeout), (PathBuf::from("/r"), Duration::from_secs(5)));
        assert_eq!(options.program, PathBuf::from("run"));
        assert_eq!(options.arguments, ["--ready", "x", "--"]);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (line, problem) in [
            ("", "no program"),
            ("--", "no program"),
            ("agent", "agent is not known"),
            ("--timeout", "--timeout needs a value"),
            ("--timeout soon -- x", "soon is no number"),
            ("--timeout -1 -- x", "-1 is no number"),
        ] {
            assert!(parsed(line).unwrap_err().contains(problem), "{line}");
        }
    }
}
