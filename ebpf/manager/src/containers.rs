//! Enrolling and retiring containers.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use abi::{Budget, Container, Enrolment, Identity, Ledger};
use emitter::{Event, What};
use ipnet::IpNet;
use rules::Rule;

use crate::{
    Manager,
    attach::Program,
    clock::{boot_ns, nanoseconds},
    error::{Error, Result},
    lock::Lock,
    network::{Network, Proxy},
    permit::permits,
    pins::{all, found, stored},
    refuse::{cgroup_id, populated, too_long, unobserved},
    resolver::ResolverAddresses,
    routes,
    state::{read_folder, read_json, remove_file, write_json},
    tell::with_rules,
    view::View,
};

/// What to enrol, and how.
#[derive(Clone, Debug)]
pub struct EnrolRequest {
    /// Its cgroup v2 folder.
    pub cgroup: PathBuf,
    /// The runtime's identifier.
    pub container_id: String,
    /// Raw label `dev.clawker.agent`.
    pub agent: String,
    /// Raw label `dev.clawker.project`.
    pub project: String,
    /// Its egress rules.
    pub rules: Vec<Rule>,
    /// Its own network.
    pub network: Network,
    /// Networks that no name leads it to, beside those of [`rules::forbidden`]: of the stack itself.
    pub forbidden: Vec<IpNet>,
    /// The proxy that flows are handed to.
    pub proxy: Proxy,
    /// Its resolver view. Without one, DNS is denied.
    pub resolver: Option<ResolverAddresses>,
    /// Shortest time a DNS answer permits its addresses.
    pub dns_ttl_floor: Duration,
    /// UDP flows without a datagram for this long end.
    pub udp_idle: Duration,
    /// Most flows open at once.
    pub flow_quota: u64,
    /// Enrol although processes in it could go around the hooks.
    pub accept_unobserved: bool,
    /// Programs not to attach: a fault for tests, empty in production.
    pub leave_out: Vec<Program>,
}

impl EnrolRequest {
    /// [`dns_ttl_floor`](Self::dns_ttl_floor) unless told otherwise.
    pub const DNS_TTL_FLOOR: Duration = Duration::from_secs(60);
    /// [`udp_idle`](Self::udp_idle) unless told otherwise.
    pub const UDP_IDLE: Duration = Duration::from_secs(30);
    /// [`flow_quota`](Self::flow_quota) unless told otherwise.
    pub const FLOW_QUOTA: u64 = 16_384;

    /// A request with the default times and quota.
    pub fn new(cgroup: impl Into<PathBuf>, container_id: impl Into<String>) -> Self {
        Self {
            cgroup: cgroup.into(),
            container_id: container_id.into(),
            agent: String::new(),
            project: String::new(),
            rules: Vec::new(),
            network: Network::default(),
            forbidden: Vec::new(),
            proxy: Proxy::default(),
            resolver: None,
            dns_ttl_floor: Self::DNS_TTL_FLOOR,
            udp_idle: Self::UDP_IDLE,
            flow_quota: Self::FLOW_QUOTA,
            accept_unobserved: false,
            leave_out: Vec::new(),
        }
    }
}

impl Manager {
    /// Enrols a container: from its return on, every attempt in the cgroup and below it is decided
    /// and recorded.
    ///
    /// # Errors
    /// If the cgroup is not one, is enrolled, lies above or below one that is, or holds processes
    /// that could go around the hooks; or if the kernel refuses. Nothing stays behind then.
    pub fn enrol(&self, request: &EnrolRequest) -> Result<Enrolment> {
        let accepted = self.accepted(request);
        let result = self.enrol_or_make_room(request);
        let owner = self.owner_to_be(request, result.as_ref().ok());
        if let (Ok(_), Some(how)) = (&result, accepted) {
            self.tell(Event::new(What::UnobservedAccepted).of(owner.clone()).told(how), Ok(()))?;
        }
        self.tell(with_rules(Event::new(What::Enrolled).of(owner), &request.rules), result)
    }

    fn enrol_or_make_room(&self, request: &EnrolRequest) -> Result<Enrolment> {
        match self.enrol_once(request) {
            // Retired containers have the room, if no daemon has moved their counters to their files.
            Err(Error::Full { .. }) if self.clear_retired()? > 0 => self.enrol_once(request),
            result => result,
        }
    }

    fn enrol_once(&self, request: &EnrolRequest) -> Result<Enrolment> {
        let refuse = |problem: String| Error::Enrol { cgroup: request.cgroup.clone(), problem };
        let cgroup_id = cgroup_id(&request.cgroup)?;
        self.clear_earlier(cgroup_id)?;
        let _lock = self.lock_changes()?;
        let permits = permits(&request.rules)?;
        if let Some(problem) = request.network.problem() {
            return Err(refuse(problem));
        }
        if request.proxy.catch_all.is_some() && request.proxy.v4.is_none() {
            return Err(refuse(
                "there is a catch-all, and no IPv4 address of the proxy that it is on".to_owned(),
            ));
        }
        routes::fit(&permits)?;
        routes::of_prefixes(&permits, &request.network, cgroup_id)?;
        if let Some(problem) = too_long(request) {
            return Err(refuse(problem));
        }
        if found("container_map", self.pins.containers()?.get(&cgroup_id, 0))?.is_some() {
            return Err(refuse(format!(
                "it is enrolled already, with cgroup id {cgroup_id}; retire it first"
            )));
        }
        self.refuse_nesting(&request.cgroup)?;
        if let Some(problem) = self.held_by_one_that_is_gone(request)? {
            return Err(refuse(problem));
        }
        if !request.accept_unobserved
            && let Some(problem) = unobserved(&request.cgroup)?
        {
            return Err(refuse(format!("{problem}. --accept-unobserved enrols it all the same")));
        }
        let before: Option<Enrolment> = read_json(&self.enrolment_path(cgroup_id))?;
        let enrolment = Enrolment {
            cgroup_id,
            container_id: request.container_id.clone(),
            agent: request.agent.clone(),
            project: request.project.clone(),
            enrolled_ns: boot_ns(),
            retired_ns: None,
            earlier: before.clone().map(Enrolment::into_holders).unwrap_or_default(),
        };
        let result = self.enrol_steps(request, &enrolment);
        if result.is_err() {
            // The first error is the one to report.
            let _ = self.forget(cgroup_id);
            let _ = match before {
                Some(before) => write_json(&self.enrolment_path(cgroup_id), &before),
                None => remove_file(&self.enrolment_path(cgroup_id)),
            };
        }
        result.map(|()| enrolment)
    }

    fn enrol_steps(&self, request: &EnrolRequest, enrolment: &Enrolment) -> Result<()> {
        let cgroup_id = enrolment.cgroup_id;
        // The reader must know the owner before the first record.
        write_json(&self.enrolment_path(cgroup_id), enrolment)?;
        let mut ledger = self.pins.ledger()?;
        // What is there is of an earlier life that was not cleared yet, and goes on.
        if found("ledger", ledger.get(&cgroup_id, 0))?.is_none() {
            stored(
                "ledger",
                || format!("the ledger of {cgroup_id}"),
                ledger.insert(cgroup_id, Ledger { since_ns: enrolment.enrolled_ns, ..Ledger::default() }, 0),
            )?;
        }
        stored(
            "budgets",
            || format!("the budget of {cgroup_id}"),
            self.pins.budgets()?.insert(cgroup_id, Budget::default(), 0),
        )?;
        let listen = |address: Option<SocketAddr>| {
            address.map_or(([0; 16], 0), |address| (routes::address(address.ip()), address.port()))
        };
        let (resolver, resolver_port) = listen(request.resolver.and_then(|view| view.v4).map(SocketAddr::V4));
        let (resolver6, resolver6_port) =
            listen(request.resolver.and_then(|view| view.v6).map(SocketAddr::V6));
        let settings = Container {
            resolver,
            resolver6,
            udp_idle_ns: nanoseconds(request.udp_idle),
            flow_quota: request.flow_quota,
            proxy: request.proxy.v4.map_or([0; 16], |v4| routes::address(v4.into())),
            proxy6: request.proxy.v6.map_or([0; 16], |v6| routes::address(v6.into())),
            resolver_port,
            resolver6_port,
            catch_all: request.proxy.catch_all.unwrap_or(0),
            pad: [0; 6],
            kinds: 0,
        };
        stored(
            "container_map",
            || format!("container {cgroup_id}"),
            self.pins.containers()?.insert(cgroup_id, settings, 0),
        )?;
        let view = View {
            cgroup_id,
            enrolled_ns: enrolment.enrolled_ns,
            resolver: request.resolver,
            dns_ttl_floor_ms: u64::try_from(request.dns_ttl_floor.as_millis()).unwrap_or(u64::MAX),
            network: request.network.clone(),
            forbidden: request.forbidden.clone(),
            rules: Vec::new(),
        };
        write_json(&self.view_path(cgroup_id), &view)?;
        self.replace_rules(cgroup_id, &request.rules)?;
        let identity = Identity { cgroup_id, enrolled_ns: enrolment.enrolled_ns };
        self.attach(&request.cgroup, identity, &request.leave_out)
    }

    /// Detaches a container's programs and forgets its settings. Its counters, names and enrolment
    /// file stay: records of it may still be on their way. Returns once what was folded is documented, or within a
    /// second where no reader documents it.
    ///
    /// # Errors
    /// If it is not enrolled, or a map or file refuses.
    pub fn retire(&self, cgroup_id: u64) -> Result<()> {
        self.retire_now(cgroup_id)?;
        self.await_folds(cgroup_id)
    }

    /// As [`retire`](Self::retire), unless processes would be left without enforcement.
    ///
    /// # Errors
    /// If its cgroup has any, or as there.
    pub fn retire_unused(&self, cgroup_id: u64) -> Result<()> {
        if found("container_map", self.pins.containers()?.get(&cgroup_id, 0))?.is_some()
            && let Some(cgroup) = populated(cgroup_id)?
        {
            let event = Event::new(What::Retired).of(self.owner(cgroup_id));
            return self.tell(event, Err(Error::Populated(cgroup)));
        }
        self.retire(cgroup_id)
    }

    /// As [`retire`](Self::retire), without the wait.
    pub(crate) fn retire_now(&self, cgroup_id: u64) -> Result<()> {
        // Its owner is asked before: afterwards it has none.
        let event = Event::new(What::Retired).of(self.owner(cgroup_id));
        self.tell(event, self.retire_untold(cgroup_id))
    }

    fn retire_untold(&self, cgroup_id: u64) -> Result<()> {
        let _lock = self.lock_changes()?;
        let path = self.enrolment_path(cgroup_id);
        let enrolment = read_json::<Enrolment>(&path)?.filter(|enrolment| enrolment.retired_ns.is_none());
        let Some(mut enrolment) = enrolment else { return Err(Error::NotEnrolled(cgroup_id)) };
        self.forget(cgroup_id)?;
        enrolment.retired_ns = Some(boot_ns());
        write_json(&path, &enrolment)
    }

    fn forget(&self, cgroup_id: u64) -> Result<()> {
        self.not_ready(cgroup_id)?;
        self.detach(cgroup_id)?;
        self.clear_prefixes(cgroup_id)?;
        let mut routes = self.pins.routes()?;
        for domain in self.domains(cgroup_id)? {
            found("route_map", routes.remove(&domain))?;
        }
        let mut cache = self.pins.dns_cache()?;
        let stamped = all("dns_cache", cache.keys())?;
        for key in stamped.iter().filter(|key| key.cgroup_id == cgroup_id) {
            found("dns_cache", cache.remove(key))?;
        }
        found("bypass_map", self.pins.bypass()?.remove(&cgroup_id))?;
        found("budgets", self.pins.budgets()?.remove(&cgroup_id))?;
        found("container_map", self.pins.containers()?.remove(&cgroup_id))?;
        remove_file(&self.view_path(cgroup_id))
    }

    /// Every enrolment file there is, retired ones included.
    pub(crate) fn enrolments(&self) -> Result<Vec<Enrolment>> {
        read_folder(&self.state_dir.join(Enrolment::FOLDER))
    }

    /// Holds the set still, across processes, for whoever enrols, retires, changes rules or unloads.
    pub(crate) fn lock_changes(&self) -> Result<Lock> {
        Lock::take(&self.state_dir.join("manager.lock"))
    }

    /// A container's counters in the kernel.
    ///
    /// # Errors
    /// If it has none: it never was enrolled, or they are in a file since it was retired.
    pub fn ledger(&self, cgroup_id: u64) -> Result<Ledger> {
        found("ledger", self.pins.ledger()?.get(&cgroup_id, 0))?.ok_or(Error::NotEnrolled(cgroup_id))
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    pub(crate) fn enrolment_path(&self, cgroup_id: u64) -> PathBuf {
        self.state_dir.join(Enrolment::FOLDER).join(format!("{cgroup_id}.json"))
    }
}
