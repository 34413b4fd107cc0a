//! The `ebpf-manager` command.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod options;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
};

use anyhow::Context as _;
use clap::Parser as _;
use emitter::{Event, Owner, Telemetry, What};
use manager::{AuditRequest, Error, Kind, LoadOptions, Manager};
use nix::unistd::geteuid;
use options::{BypassCommand, Cli, Command, RulesCommand, Seconds};
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt::layer as fmt_layer, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// What a command about a container was to do.
fn of(what: What, cgroup_id: u64) -> Event {
    Event::new(what).of(Owner { cgroup_id: Some(cgroup_id), ..Owner::default() })
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let set = cli.set();
    // Whoever runs one command does not wait until something is sent.
    let telemetry = match &cli.command {
        Command::Run(options) => Some(Telemetry::new(options, set.events().clone())),
        _ => None,
    };
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,hickory_server=warn"));
    tracing_subscriber::registry()
        .with(fmt_layer().json().with_writer(io::stderr).with_filter(filter))
        .with(telemetry.as_ref().and_then(Telemetry::logs))
        .init();
    let is_audit = matches!(cli.command, Command::Audit(_));
    match run(cli, &set, telemetry) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ebpf-manager: {error:#}");
            let kind = error.downcast_ref().map_or(Kind::Failed, Error::kind);
            if kind == Kind::Failed && !geteuid().is_root() {
                eprintln!("ebpf-manager: this is not root, which it needs to be");
            }
            match kind {
                // What it found has the others.
                _ if is_audit => ExitCode::from(2),
                Kind::Failed => ExitCode::FAILURE,
                Kind::Request => ExitCode::from(2),
                Kind::Refused => ExitCode::from(3),
            }
        }
    }
}

fn run(cli: Cli, set: &Manager, telemetry: Option<Telemetry>) -> anyhow::Result<ExitCode> {
    let check = || set.check();
    // What comes to nothing here, the manager does not hear of.
    let early = |event: Event, error: Error| {
        set.tell_failed(event, &error);
        error
    };
    match cli.command {
        Command::Load { ring_bytes } => {
            let options = LoadOptions {
                pin_dir: cli.pin_dir.clone(),
                state_dir: cli.state_dir.clone(),
                ring_bytes,
                faults: 0,
                node: cli.node,
            };
            Manager::load(&options)?;
            say(&format!("loaded and pinned at {}", cli.pin_dir.display()))?;
        }
        Command::Enrol(args) => {
            let event = Event::new(What::Enrolled).of(Owner {
                agent: Some(args.agent.clone()),
                project: Some(args.project.clone()),
                container_id: Some(args.container_id.clone()),
                cgroup_id: None,
            });
            let request = args.request().and_then(|request| check().map(|()| request));
            let request = request.map_err(|error| early(event, error))?;
            let enrolment = set.enrol(&request)?;
            say(&format!("enrolled cgroup {}", enrolment.cgroup_id))?;
            if request.resolver.is_some() && set.daemon()?.is_none() {
                eprintln!("ebpf-manager: its resolver view answers once `ebpf-manager run` is running");
            }
        }
        Command::Retire { cgroup_id, force } => {
            check().map_err(|error| early(of(What::Retired, cgroup_id), error))?;
            if force {
                set.retire(cgroup_id)?
            } else {
                set.retire_unused(cgroup_id)?
            }
            say(&format!("retired cgroup {cgroup_id}"))?;
        }
        Command::Rules(RulesCommand::Apply { file, cgroup_id }) => {
            let rules = rules::read(&file).map_err(Error::Rules);
            let rules = rules.and_then(|rules| check().map(|()| rules));
            let rules = rules.map_err(|error| early(of(What::RulesApplied, cgroup_id), error))?;
            set.apply_rules(cgroup_id, &rules)?;
            warn_if_gone(set, cgroup_id)?;
            say(&format!("{} rules applied to cgroup {cgroup_id}", rules.len()))?;
        }
        Command::Bypass(BypassCommand::On { cgroup_id, duration }) => {
            check().map_err(|error| early(of(What::BypassOn, cgroup_id), error))?;
            set.bypass_on(cgroup_id, duration.0)?;
            warn_if_gone(set, cgroup_id)?;
            say(&format!("bypass on for cgroup {cgroup_id}, for {duration} s"))?;
        }
        Command::Bypass(BypassCommand::Off { cgroup_id }) => {
            check().map_err(|error| early(of(What::BypassOff, cgroup_id), error))?;
            let what = if set.bypass_off(cgroup_id)? { "bypass off" } else { "no bypass was on" };
            say(&format!("{what} for cgroup {cgroup_id}"))?;
        }
        Command::Dump { json } => {
            check()?;
            let dump = set.dump()?;
            say(&if json {
                serde_json::to_string_pretty(&dump.0)?
            } else {
                dump.to_string().trim_end().to_owned()
            })?;
        }
        Command::Status { json } => {
            check()?;
            let status = set.status()?;
            say(&if json { serde_json::to_string_pretty(&status)? } else { status.to_string() })?;
        }
        Command::Audit(args) => {
            let spool_dir = args.spool_dir.unwrap_or_else(|| cli.state_dir.join(abi::spool::FOLDER));
            check()?;
            return audit(set, &AuditRequest { spool_dir, documents: args.documents }, args.json, args.watch);
        }
        Command::Run(_) => {
            check()?;
            let shipping = telemetry.map(Telemetry::start).transpose()?;
            let result =
                tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                    let mut terminate =
                        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
                    let stop = async move {
                        tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
                    };
                    set.run(stop).await?;
                    anyhow::Ok(())
                });
            if let Some(shipping) = shipping {
                shipping.stop();
            }
            result?;
        }
        Command::Unload { force } => {
            let containers = if force { set.unload()? } else { set.unload_unused().map(|()| 0)? };
            say(&format!("unloaded; {containers} container(s) detached"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said of a container that has ended is done, and comes to nothing.
fn warn_if_gone(set: &Manager, cgroup_id: u64) -> Result<(), Error> {
    if set.is_gone(cgroup_id)? {
        eprintln!(
            "ebpf-manager: the cgroup {cgroup_id} is gone, and its processes with it: `ebpf-manager retire {cgroup_id}`"
        );
    }
    Ok(())
}

/// Prints a line, or several, on standard output. `false`: nobody reads it, such as a `head` that has what it wanted, which is none of
/// our trouble.
fn say(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

fn audit(
    manager: &Manager,
    request: &AuditRequest,
    json: bool,
    watch: Option<Seconds>,
) -> anyhow::Result<ExitCode> {
    loop {
        let audit = manager.audit(request)?;
        let is_read = say(&match (json, watch) {
            (true, Some(_)) => serde_json::to_string(&audit)?,
            (true, None) => serde_json::to_string_pretty(&audit)?,
            (false, _) => audit.to_string(),
        })?;
        match watch {
            // It ends with whoever reads it.
            Some(_) if !is_read => return Ok(ExitCode::SUCCESS),
            Some(pause) => thread::sleep(pause.0),
            None if audit.closed => return Ok(ExitCode::SUCCESS),
            None => return Ok(ExitCode::from(1)),
        }
    }
}
