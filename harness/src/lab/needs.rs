//! Whether this machine has what a scenario needs: each thing is tried, not looked up.

use std::{
    env,
    os::fd::{FromRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::utsname::uname,
    unistd::{AccessFlags, access},
};

use crate::{
    event::Tier,
    scenario::{
        fields::OVERSEER_STREAM,
        needs::{Feature, KernelVersion, Requirement},
        types::{Disturbance, Need, Outage, Scenario, Step, Stopped},
    },
};

/// What the first unmet need of a scenario or of its calls is, and how that was found out; or what of it a tier cannot show.
pub(crate) fn missing(scenario: &Scenario, tier: Tier) -> Option<String> {
    if tier == Tier::Stack
        && let Some(why) = scenario.each_step().find_map(|(_, step)| lab_alone(step))
    {
        return Some(why.to_owned());
    }
    if tier < Tier::Stack && scenario.has_envoy() {
        return Some("needs the stack tier: its proxy is Envoy".to_owned());
    }
    if tier < Tier::Stack && scenario.has_coredns() {
        return Some("needs the stack tier: its resolver is CoreDNS".to_owned());
    }
    if tier < Tier::Stack && scenario.stops_plane() {
        return Some("needs the stack tier: it stops a part of the telemetry plane".to_owned());
    }
    if tier < Tier::Stack && scenario.rolls_over() {
        return Some("needs the stack tier: a stream goes on in another index of the store".to_owned());
    }
    if tier < Tier::Stack && scenario.expects(OVERSEER_STREAM) {
        return Some("needs the stack tier: its documents are told by our own programs".to_owned());
    }
    let said = scenario.needs.iter().map(Need::requirement);
    let implied = scenario.steps.iter().flat_map(Requirement::of).map(Ok);
    said.chain(implied).find_map(|need| match need {
        Ok(requirement) => unmet(&requirement).map(|why| format!("needs {requirement}: {why}")),
        Err(unknown) => Some(unknown.to_string()),
    })
}

/// What of a step only the lab can do.
fn lab_alone(step: &Step) -> Option<&'static str> {
    match step.disturbance()? {
        Disturbance::Endpoint(_) | Disturbance::Stop(Outage { part: Stopped::Endpoint, .. }) => Some(
            "what an endpoint may answer is shown in the lab; the servers of the stack have faults of their own",
        ),
        _ => None,
    }
}

fn unmet(requirement: &Requirement) -> Option<String> {
    match requirement {
        Requirement::Feature(feature) => {
            let call = if *feature == Feature::IoUring { "io_uring_setup" } else { "socket" };
            attempt(*feature).err().map(|errno| format!("{call} says {errno:?}"))
        }
        Requirement::Since(since) => not_this(|running| running >= *since),
        Requirement::Before(before) => not_this(|running| running < *before),
        Requirement::Program(program) => (!in_path(program)).then(|| "not in PATH".to_owned()),
    }
}

/// Makes the thing, and throws it away.
fn attempt(feature: Feature) -> Result<(), Errno> {
    // Not in libc for this target.
    const SOCK_DCCP: libc::c_int = 6;
    const IPPROTO_DCCP: libc::c_int = 33;
    match feature {
        Feature::Dccp => socket(libc::AF_INET, SOCK_DCCP, IPPROTO_DCCP),
        Feature::IoUring => io_uring(),
        Feature::Mptcp => socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        Feature::Sctp => socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        Feature::Udplite => socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        Feature::Vsock => socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    }
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    let made = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    close(made.into())
}

fn io_uring() -> Result<(), Errno> {
    // `struct io_uring_params`, all defaults; the kernel writes into it.
    let mut parameters = [0_u64; 15];
    // SAFETY: the structure has 120 bytes in every version of the kernel, and outlives the call.
    let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    close(made)
}

/// Closes what a call returned, or says why it returned nothing.
fn close(made: libc::c_long) -> Result<(), Errno> {
    let descriptor = i32::try_from(Errno::result(made)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: just made, and nobody else's.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}

/// Why the running kernel is not one of those `wanted`.
fn not_this(wanted: impl Fn(KernelVersion) -> bool) -> Option<String> {
    let release = match uname() {
        Ok(names) => names.release().to_string_lossy().into_owned(),
        Err(errno) => return Some(format!("uname says {errno:?}")),
    };
    match version(&release) {
        Some(running) if wanted(running) => None,
        Some(_) => Some(format!("this is Linux {release}")),
        None => Some(format!("the release `{release}` is not understood")),
    }
}

/// `5.10.0-32-amd64` is 5.10.
fn version(release: &str) -> Option<KernelVersion> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some(KernelVersion { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
}

/// As an `exec` step looks for it.
pub(crate) fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| {
        let file = folder.join(program);
        file.is_file() && access(&file, AccessFlags::X_OK).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        let of = |major, minor| Some(KernelVersion { major, minor });
        assert_eq!(version("5.10.0-32-amd64"), of(5, 10));
        assert_eq!(version("6.1"), of(6, 1));
        assert_eq!(version("6.12-rc1"), of(6, 12));
        assert_eq!(version("next"), None);
    }

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_named() {
        let unmet = |text: &str| unmet(&text.parse().unwrap());
        assert_eq!(unmet("kernel>=2.6"), None);
        assert!(unmet("kernel<2.6").unwrap().starts_with("this is Linux "));
        assert!(unmet("kernel>=999.0").is_some());
        assert_eq!(super::unmet(&Requirement::Program("sh".to_owned())), None);
        let none = Requirement::Program("no-such-program".to_owned());
        assert_eq!(super::unmet(&none).unwrap(), "not in PATH");
    }

    #[test]
    fn a_call_is_tried() {
        assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM, 0), Ok(()));
        assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM, 255), Err(Errno::EPROTONOSUPPORT));
    }
}
