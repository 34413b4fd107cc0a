//! Authorities, and the certificates by which the parts of the stack know each other: made where they are not, and made anew
//! before they end.

use std::{path::Path, time::Duration};

use stack::{
    Lane, RELAY,
    certificates::{Authority, Held, Role},
};

use super::{
    files::{self, User},
    service::{self, AGENTS_COLLECTOR, COLLECTOR, USER, collector_of},
    settings::{Settings, host},
};

const DAY: Duration = Duration::from_secs(86_400);
/// How long a certificate holds.
const LENGTH: Duration = Duration::from_secs(365 * DAY.as_secs());
/// One that ends sooner than this is made anew.
pub const SOON: Duration = Duration::from_secs(30 * DAY.as_secs());
/// Folder of the authorities' own keys, which nothing but this reads.
pub const AUTHORITIES: &str = "authorities";
/// Folder of what is to be given to others.
pub const GIVEN: &str = "given";
/// Lanes whose senders are on the machine: the reader, and programs of ours that tell of themselves.
pub const OF_THE_MACHINE: [Lane; 3] = [Lane::Egress, Lane::Cp, Lane::Overseer];

/// Makes whatever is missing, of the wrong names or authority, or about to end. Names what was made.
pub fn ready(folder: &Path, settings: &Settings) -> anyhow::Result<Vec<String>> {
    let at = |name: &str| folder.join(name);
    files::folder(&at(AUTHORITIES), 0o700, None)?;
    files::folder(&at(GIVEN), 0o700, None)?;
    for name in [
        "collector",
        "collector/certificates",
        "agents-collector",
        "agents-collector/certificates",
        "envoy",
        "envoy/lane",
        "envoy/telemetry",
        "relay",
        "relay/certificates",
    ] {
        files::folder(&at(name), 0o755, None)?;
    }
    let mut made = Vec::new();
    let mut issue = |authority: &Authority, to: &str, names: &[&str], role, user| {
        if renew(authority, &at(to), names, role, user)? {
            made.push(to.to_owned());
        }
        anyhow::Ok(())
    };
    let authority = |name: &str| Authority::open(&at(AUTHORITIES), name);
    for lane in Lane::ALL {
        let authority = authority(lane.word())?;
        files::write(
            &at(&format!("{}/certificates/{}-ca.crt", collector_of(lane).0, lane.word())),
            authority.certificate().as_bytes(),
            0o644,
            None,
        )?;
        if OF_THE_MACHINE.contains(&lane) {
            issue(&authority, &format!("{GIVEN}/{}", lane.word()), &[lane.word()], Role::Client, None)?;
        }
    }
    let collector = authority("collector")?;
    let collectors = [("collector", COLLECTOR), ("agents-collector", AGENTS_COLLECTOR)];
    for (name, number) in collectors {
        let address = host(settings.plane, number).to_string();
        let to = format!("{name}/certificates/server");
        issue(&collector, &to, &[name, &address], Role::Server, Some(USER))?;
    }
    for (lane, to) in [(Lane::Envoy, "envoy/lane/tls"), (Lane::Claude, "envoy/telemetry/tls")] {
        issue(&authority(lane.word())?, to, &["envoy"], Role::Client, Some(USER))?;
    }
    let relay = authority(RELAY)?;
    let address = host(settings.plane, service::RELAY).to_string();
    issue(&relay, "relay/certificates/server", &["relay", &address], Role::Server, Some(USER))?;
    issue(&relay, "relay/certificates/forward", &["relay"], Role::Client, Some(USER))?;
    for (name, _) in collectors {
        issue(&relay, &format!("{name}/certificates/to-relay"), &[name], Role::Client, Some(USER))?;
    }
    for to in ["relay", "collector", "agents-collector"] {
        let to = format!("{to}/certificates/relay-ca.crt");
        files::write(&at(&to), relay.certificate().as_bytes(), 0o644, None)?;
    }
    for to in [
        "envoy/lane/ca.crt",
        "envoy/telemetry/ca.crt",
        "relay/certificates/collector-ca.crt",
        "given/collector-ca.crt",
    ] {
        files::write(&at(to), collector.certificate().as_bytes(), 0o644, None)?;
    }
    files::write(&at("given/proxy-ca.crt"), proxy(folder)?.certificate().as_bytes(), 0o644, None)?;
    Ok(made)
}

/// Who signs what the proxy shows to agents.
pub fn proxy(folder: &Path) -> anyhow::Result<Authority> {
    Ok(Authority::open(&folder.join(AUTHORITIES), "proxy")?)
}

/// Has `<to>.crt` and `<to>.key` be a good certificate. Says whether it was not.
pub fn renew(
    authority: &Authority,
    to: &Path,
    names: &[&str],
    role: Role,
    user: Option<User>,
) -> anyhow::Result<bool> {
    let (folder, name) = (to.parent().unwrap_or(to), to.file_name().unwrap_or_default().to_string_lossy());
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let is_good =
        key.exists() && Held::read(&certificate)?.is_some_and(|held| held.is_good(authority, names, SOON));
    if !is_good {
        authority.issue(names, role, LENGTH)?.write(folder, &name)?;
    }
    files::own(&key, user)?;
    Ok(!is_good)
}
