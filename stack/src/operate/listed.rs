//! What a list says of a container, held against the network of agents, and against what Docker says of it: by a wrong address
//! the proxy takes one container for another, and by another label its documents are another agent's than the kernel's.

use std::{collections::HashMap, net::IpAddr};

use stack::Container;

use super::{
    docker::{self, Docker},
    service::{MACHINE, TO_PROXY, TO_RESOLVER},
    settings::{Settings, host},
};

/// That it is where the proxy can tell it apart.
pub fn fits(container: &Container, settings: &Settings) -> Result<(), String> {
    let id = &container.container_id;
    if container.addresses.is_empty() {
        return Err(format!("the container {id} has no address: the proxy would know nothing of it"));
    }
    for address in &container.addresses {
        let IpAddr::V4(v4) = address.to_canonical() else { continue };
        if !settings.agents.contains(&v4) {
            return Err(format!(
                "the container {id} has the address {v4}, which is not in {}, the network of agents: `docker run --network {}`",
                settings.agents,
                settings.agents_network()
            ));
        }
        if [MACHINE, TO_PROXY, TO_RESOLVER].iter().any(|number| host(settings.agents, *number) == v4) {
            return Err(format!("the container {id} has the address {v4}, which is the stack's own"));
        }
    }
    Ok(())
}

/// That Docker's container is the one that is listed.
pub fn is_it(
    container: &Container,
    there: &docker::Container,
    docker: &Docker,
) -> anyhow::Result<Result<(), String>> {
    // Who lives in another's network namespace has that one's addresses.
    let other = there.within().map(|other| docker.anybodys(other)).transpose()?.flatten();
    let addresses = other.as_ref().unwrap_or(there).addresses();
    Ok(agrees(container, there.id(), |label| there.label(label), &addresses))
}

/// An address of it that is another container's now, and whose: one that ended leaves it to whoever comes.
pub fn taken(
    container: &Container,
    docker: &Docker,
    holders: &HashMap<IpAddr, String>,
) -> anyhow::Result<Option<(IpAddr, String)>> {
    let holder = |address: &IpAddr| Some((*address, holders.get(&address.to_canonical())?.clone()));
    let other = container.addresses.iter().filter_map(holder).find(|(_, id)| *id != container.container_id);
    let Some((address, holder)) = other else { return Ok(None) };
    let there = docker.anybodys(&container.container_id)?;
    let lives_there = match there.as_ref().and_then(docker::Container::within) {
        Some(other) => docker.anybodys(other)?.is_some_and(|other| other.id() == holder),
        None => false,
    };
    Ok((!lives_there).then_some((address, holder)))
}

/// `addresses`: none while it does not run.
fn agrees<'a>(
    container: &Container,
    id: &str,
    label: impl Fn(&str) -> Option<&'a str>,
    addresses: &[IpAddr],
) -> Result<(), String> {
    let listed = &container.container_id;
    if listed != id {
        return Err(format!(
            "{listed} is the container {id}: list it by that, since all its documents are joined by it"
        ));
    }
    let agent = label(Container::AGENT_LABEL);
    // An agent without a project is of the empty one.
    let project = label(Container::PROJECT_LABEL).or(agent.map(|_| ""));
    for (name, has, listed) in [
        (Container::AGENT_LABEL, agent, &container.agent),
        (Container::PROJECT_LABEL, project, &container.project),
    ] {
        if let Some(has) = has.filter(|has| has != listed) {
            return Err(format!(
                "the container {id} has the label {name}={has:?}, and is listed with {listed:?}"
            ));
        }
    }
    for listed in container.addresses.iter().filter(|_| !addresses.is_empty()) {
        if !addresses.iter().any(|has| has.to_canonical() == listed.to_canonical()) {
            let has: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            return Err(format!(
                "the container {id} has {}, and is listed with the address {listed}",
                has.join(" and ")
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_says_otherwise_is_told() {
        let text =
            "[{container_id: c0ffee, agent: scout, project: '', addresses: [198.18.0.130], rules: []}]";
        let container = stack::containers(text).expect("containers").remove(0);
        let own: IpAddr = [198, 18, 0, 130].into();
        let other: IpAddr = [198, 18, 0, 131].into();
        let of = |id: &str, agent: Option<&'static str>, addresses: &[IpAddr]| {
            let label = |name: &str| if name == Container::AGENT_LABEL { agent } else { None };
            agrees(&container, id, label, addresses)
        };
        assert_eq!(of("c0ffee", Some("scout"), &[other, own]), Ok(()));
        assert_eq!(of("c0ffee", None, &[]), Ok(()), "no agent by its labels, and it does not run");
        for (result, told) in [
            (of("c0ffee00", None, &[own]), "c0ffee is the container c0ffee00"),
            (
                of("c0ffee", Some("thief"), &[own]),
                "has the label dev.clawker.agent=\"thief\", and is listed with \"scout\"",
            ),
            (of("c0ffee", None, &[other]), "has 198.18.0.131, and is listed with the address 198.18.0.130"),
        ] {
            let error = result.expect_err(told);
            assert!(error.contains(told), "{error}");
        }
    }
}
