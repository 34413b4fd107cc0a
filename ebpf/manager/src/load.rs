//! Loading and unloading the whole set.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use abi::{ABI_VERSION, Budget, Enrolment, Ledger, pin};
use aya::{
    EbpfLoader, VerifierLogLevel,
    programs::{Program as Loaded, ProgramError},
};
use emitter::{Event, Events, What};
use nix::sys::resource::{Resource, setrlimit};

use crate::{
    Manager, OBJECT, Pins,
    attach::Program,
    error::{Error, Result},
    tell::COMPONENT,
    view::VIEWS,
};

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where to pin; a folder on a bpffs. Default `/sys/fs/bpf/clawker`.
    pub pin_dir: PathBuf,
    /// Where state files go. Default `/run/clawker`.
    pub state_dir: PathBuf,
    /// Size of the ring in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// Bits of [`abi::fault`]; 0 in production.
    pub faults: u32,
    /// What the machine is called in what is told; `None`: as it calls itself.
    pub node: Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            pin_dir: pin::DEFAULT_DIR.into(),
            state_dir: Enrolment::DEFAULT_STATE_DIR.into(),
            ring_bytes: 1 << 20,
            faults: 0,
            node: None,
        }
    }
}

impl Manager {
    /// Names a set, without asking whether it is there.
    pub fn at(pin_dir: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Self {
        let state_dir = state_dir.into();
        let events = Events::of(&state_dir, COMPONENT, None);
        Self { pins: Pins::new(pin_dir), state_dir, events }
    }

    /// The same, on a machine that is called so in what it tells.
    #[must_use]
    pub fn on_node(mut self, node: &str) -> Self {
        self.events = Events::of(&self.state_dir, COMPONENT, Some(node));
        self
    }

    /// Refuses unless a set of this version is loaded.
    ///
    /// # Errors
    /// If nothing is pinned there, or something of another version.
    pub fn check(&self) -> Result<()> {
        self.pins.check()
    }

    /// Loads the object and pins everything. Nothing is attached yet: enrolment does that.
    ///
    /// # Errors
    /// If something is pinned there already, or the kernel refuses; nothing stays pinned then.
    pub fn load(options: &LoadOptions) -> Result<Self> {
        let mut manager = Self::at(&options.pin_dir, &options.state_dir);
        if let Some(node) = &options.node {
            manager = manager.on_node(node);
        }
        let result = manager.load_unless_loaded(options);
        let event = Event::new(What::Loaded).told(options.pin_dir.display().to_string());
        manager.tell(event, result).map(|()| manager)
    }

    fn load_unless_loaded(&self, options: &LoadOptions) -> Result<()> {
        let _lock = self.lock_changes()?;
        if options.pin_dir.exists() {
            return Err(Error::AlreadyLoaded(options.pin_dir.clone()));
        }
        // Before 5.11 maps count against this limit, for root too.
        let unlimited = nix::libc::RLIM_INFINITY;
        if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, unlimited, unlimited) {
            tracing::debug!(%error, "RLIMIT_MEMLOCK was not raised; before Linux 5.11 maps may not fit");
        }
        let result = self.load_and_pin(options);
        if result.is_err() {
            // The first error is the one to report.
            let _ = self.pins.remove();
        }
        result
    }

    fn load_and_pin(&self, options: &LoadOptions) -> Result<()> {
        let dir = self.pins.dir();
        fs::create_dir_all(dir.join("programs")).map_err(Error::file(dir))?;
        // Whoever may open it may hold the reader's lock.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(Error::file(dir))?;
        let containers = self.state_dir.join(Enrolment::FOLDER);
        fs::create_dir_all(&containers).map_err(Error::file(&containers))?;
        if options.faults != 0 {
            tracing::warn!(
                event = "fault_injected",
                faults = options.faults,
                "the programs are loaded with faults switched on"
            );
        }
        let mut object = EbpfLoader::new()
            .verifier_log_level(VerifierLogLevel::default())
            .map_max_entries(pin::EVENTS, options.ring_bytes)
            .override_global("FAULTS", &options.faults, true)
            .load(OBJECT)
            .map_err(Error::Object)?;
        for (name, map) in object.maps() {
            if Pins::MAPS.contains(&name) {
                let path = dir.join(name);
                map.pin(&path).map_err(Error::pin(path))?;
            }
        }
        for program in Program::ALL.iter().map(|program| program.name()).chain(["sweep"]) {
            let loaded = object
                .program_mut(program)
                .ok_or(ProgramError::NotLoaded)
                .and_then(|loaded| load_one(loaded).map(|()| loaded))
                .map_err(Error::program(program, "loaded"))?;
            let path = self.pins.program(program);
            loaded.pin(&path).map_err(Error::pin(path))?;
        }
        // Whatever a hook meets without an identity is counted under 0.
        self.pins.ledger()?.insert(0, Ledger::default(), 0).map_err(Error::map("ledger"))?;
        self.pins.budgets()?.insert(0, Budget::default(), 0).map_err(Error::map("budgets"))?;
        // Last: a reader takes this for the sign that all is there.
        self.pins.abi_version()?.set(0, ABI_VERSION, 0).map_err(Error::map("abi_version"))
    }

    /// Unpins everything, of whatever version, unless programs are attached to a container.
    ///
    /// # Errors
    /// If they are, if nothing is loaded, or a pin or a state file cannot be removed.
    pub fn unload_unused(&self) -> Result<()> {
        let result = self.pins.attached().and_then(|containers| match containers {
            0 => self.unpin(),
            containers => Err(Error::StillEnrolled { containers }),
        });
        self.tell(Event::new(What::Unloaded), result)
    }

    /// Retires every container and unpins everything, of whatever version. Enforcement ends. Returns how many
    /// containers programs were attached to.
    ///
    /// # Errors
    /// If nothing is loaded, a container was enrolled meanwhile, or a pin or a state file cannot be written or removed.
    pub fn unload(&self) -> Result<usize> {
        let result = self.unload_now();
        let event = Event::new(What::Unloaded);
        let event = match result {
            Ok(containers) => event.told(format!("{containers} container(s) were enrolled")),
            Err(_) => event,
        };
        self.tell(event, result)
    }

    fn unload_now(&self) -> Result<usize> {
        let containers = self.pins.attached()?;
        if self.pins.is_whole() {
            self.retire_all()?;
        } else {
            self.pins.detach_all()?;
            self.call_retired()?;
        }
        self.unpin().map(|()| containers)
    }

    /// Enrolments and counters stay in the state directory, for what is still on its way. The counters of another
    /// version do not, since nobody here can read them; of what is removed only in part, they were kept before.
    fn unpin(&self) -> Result<()> {
        let dir = self.pins.dir();
        if !dir.try_exists().map_err(Error::file(dir))? {
            return Err(Error::NotLoaded(dir.to_owned()));
        }
        let is_whole = self.pins.is_whole();
        if is_whole {
            self.settle()?;
        }
        let _lock = self.lock_changes()?;
        match self.pins.attached()? {
            0 => {}
            containers => return Err(Error::StillEnrolled { containers }),
        }
        if is_whole {
            self.keep_counters()?;
        }
        self.pins.remove()?;
        let views = self.state_dir.join(VIEWS);
        if views.exists() {
            fs::remove_dir_all(&views).map_err(Error::file(&views))?;
        }
        Ok(())
    }
}

fn load_one(program: &mut Loaded) -> std::result::Result<(), ProgramError> {
    match program {
        Loaded::CgroupSockAddr(program) => program.load(),
        Loaded::CgroupSock(program) => program.load(),
        Loaded::CgroupSkb(program) => program.load(),
        Loaded::CgroupSockopt(program) => program.load(),
        Loaded::SockOps(program) => program.load(),
        Loaded::RawTracePoint(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}
