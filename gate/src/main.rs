//! The start gate: a container's entrypoint, which becomes the agent once the container is enrolled.
//!
//! A container exists before it can be enrolled, and until then nothing stands between it and the network. So its first
//! process is this one. It waits for a file that `ebpf-manager run` makes when the enrolment is complete (every hook
//! attached, the resolver's view serving), named after the container's cgroup id, in a folder that is mounted
//! read-only. The file holds the boot that it is of; one of an earlier boot is another container's. Then this process is replaced
//! by the agent, with the same process id, user, environment and signals.

mod cgroup;
mod options;
mod stop;

use std::{
    env, fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use options::{Options, USAGE};

/// The command line is wrong, or it cannot be told which container this is.
const MISUSED: u8 = 125;
/// The program is there and cannot be run; as shells have it.
const NOT_RUN: u8 = 126;
/// There is no such program; as shells have it.
const NOT_FOUND: u8 = 127;
/// The container was not enrolled in time.
const NOT_ENROLLED: u8 = 124;
/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Between two looks: what an agent waits longer than it must.
const LOOK: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    stop::heed();
    let Options { ready, cgroups, timeout, program, arguments } = match options::parse(env::args_os().skip(1))
    {
        Ok(options) => options,
        Err(problem) => return end(MISUSED, &format!("{problem}\n{USAGE}")),
    };
    let id = match cgroup::id(&cgroups) {
        Ok(id) => id,
        Err(error) => {
            let problem = format!(
                "cannot tell which cgroup this is ({error}): mount the cgroup v2 hierarchy at {}, or name it with --cgroups",
                cgroups.display()
            );
            return end(MISUSED, &problem);
        }
    };
    let sign = ready.join(id.to_string());
    if let Err(error) = fs::read_dir(&ready) {
        let problem = format!(
            "cannot read {} ({error}): mount the manager's folder `ready` there, read-only, or name it with --ready",
            ready.display()
        );
        return end(MISUSED, &problem);
    }
    let boot = match fs::read_to_string(BOOT_ID) {
        Ok(boot) => boot,
        Err(error) => return end(MISUSED, &format!("cannot read {BOOT_ID}: {error}")),
    };
    if !appears(&sign, &boot, timeout) {
        let problem = format!(
            "cgroup {id} was not enrolled within {} s: {} is not there. Enrol it (`ebpf-manager enrol`), and see that \
             `ebpf-manager run` runs. The program was not started.",
            timeout.as_secs(),
            sign.display()
        );
        return end(NOT_ENROLLED, &problem);
    }
    let error = Command::new(&program).args(arguments).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
    end(code, &format!("cannot run {}: {error}", program.display()))
}

/// Waits for a file of this boot; false if it is not there in time.
fn appears(sign: &Path, boot: &str, timeout: Duration) -> bool {
    let began = Instant::now();
    loop {
        if fs::read_to_string(sign).is_ok_and(|of| of == boot) {
            return true;
        }
        if began.elapsed() >= timeout {
            return false;
        }
        thread::sleep(LOOK);
    }
}

fn end(code: u8, problem: &str) -> ExitCode {
    eprintln!("clawker-gate: {problem}");
    ExitCode::from(code)
}
