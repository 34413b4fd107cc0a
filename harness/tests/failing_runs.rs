//! Runs that fail, and what a person is shown: `failing_runs/*.yaml` next to the exact text in `*.txt`.
//! Needs root.
//!
//! A first line `# fault: NAME` switches that fault on in what ships. Files of one fault share a lab, and
//! without a fault they run side by side. All that is not the same in every run is taken out in
//! [`normalised`], and nowhere else.

mod golden;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Mutex,
};

use clap::ValueEnum as _;
use harness::{
    event::Tier,
    lab::{Availability, Fault, Lab, available},
    reexec,
    report::{Consumer as _, Terminal},
    run::{RunOptions, run},
    scenario,
};
use libtest_mimic::{Arguments, Completion, Trial};

/// Files at a time, where no fault is switched on: they wait more than they work.
const JOBS: usize = 8;

/// What each file's run showed, or why it could not be run.
type Shown = BTreeMap<PathBuf, Result<String, String>>;

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let arguments = Arguments::from_args();
    let files = match files() {
        Ok(files) => files,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let availability = available();
    let mut shown = Shown::new();
    if availability.tier >= Tier::Lab && !arguments.list {
        for (fault, files) in &files {
            let wanted: Vec<_> = files.iter().filter(|file| is_wanted(&arguments, file)).collect();
            // Here, not in a test's thread: a lab's reader dies with the thread that started it.
            shown.extend(show_all(*fault, &wanted));
        }
    }
    let trials = files.into_values().flatten().map(|file| {
        let shown = shown.remove(&file);
        let reason = availability.reason.clone();
        Trial::ignorable_test(name(&file), move || match shown {
            None => Ok(Completion::Ignored { reason: Some(reason) }),
            Some(shown) => {
                golden::compare(&file.with_extension("txt"), &shown?)?;
                Ok(Completion::Completed)
            }
        })
    });
    let trials = trials.collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The files by their fault, named as from the folder of the package.
fn files() -> Result<BTreeMap<Option<usize>, Vec<PathBuf>>, String> {
    let folder = Path::new("tests/failing_runs");
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in scenario::discover(&[folder.to_owned()]).map_err(|error| error.to_string())? {
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let fault = text.lines().next().and_then(|line| line.strip_prefix("# fault: "));
        let fault = fault.map(|name| {
            let number = Fault::value_variants().iter().position(|fault| fault.to_string() == name.trim());
            number.ok_or_else(|| format!("{}: there is no fault {name}", file.display()))
        });
        files.entry(fault.transpose()?).or_default().push(file);
    }
    Ok(files)
}

fn name(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_wanted(arguments: &Arguments, file: &Path) -> bool {
    let name = name(file);
    let named = |filter: &String| if arguments.exact { name == *filter } else { name.contains(filter) };
    arguments.filter.as_ref().is_none_or(named) && !arguments.skip.iter().any(named)
}

/// Runs the files of one fault in one lab.
fn show_all(fault: Option<usize>, files: &[&PathBuf]) -> Shown {
    if files.is_empty() {
        return Shown::new();
    }
    let switched = fault.and_then(|number| Fault::value_variants().get(number)).copied();
    let lab = match Lab::start(switched) {
        Ok(lab) => lab,
        Err(error) => {
            return files.iter().map(|file| ((*file).clone(), Err(format!("{error:#}")))).collect();
        }
    };
    // A fault may act on every so many records of all cells: one at a time, in order.
    let jobs = if fault.is_none() { JOBS } else { 1 };
    let (next, shown) = (Mutex::new(files.iter()), Mutex::new(Shown::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let Some(file) = next.lock().expect("no thread panicked").next() else { return };
                    let text = show(&lab, file);
                    shown.lock().expect("no thread panicked").insert((*file).clone(), text);
                }
            });
        }
    });
    shown.into_inner().expect("no thread panicked")
}

/// What the terminal shows of a file's run.
fn show(lab: &Lab, file: &Path) -> Result<String, String> {
    let cells = scenario::load(file)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let mut out = tempfile::tempfile().map_err(|error| error.to_string())?;
    let mut terminal = Box::new(Terminal::plain(out.try_clone().map_err(|error| error.to_string())?));
    let asked = Availability { tier: Tier::Lab, reason: "what a test asks for".to_owned() };
    let options = RunOptions::new(asked);
    run(&cells, Some(lab), &options, |event| terminal.event(&event));
    terminal.finish().map_err(|error| error.to_string())?;
    let mut text = String::new();
    out.rewind().and_then(|()| out.read_to_string(&mut text)).map_err(|error| error.to_string())?;
    Ok(normalised(&text))
}

/// Without what differs from run to run: how long a cell took, and the tables, which say it again.
/// Everything else is the same, because the texts name no process, cgroup, event or ephemeral port.
fn normalised(text: &str) -> String {
    let is_table = |line: &str| line.starts_with(['┌', '│', '├', '└']);
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !is_table(line)) {
        let timed = line.starts_with("FAIL ") && line.ends_with(')');
        let line = match line.rsplit_once(" (") {
            Some((before, _)) if timed => format!("{before} (TIME)"),
            _ => line.to_owned(),
        };
        let line = match line.rsplit_once(" in ") {
            Some((totals, _)) if totals.ends_with(" skipped") => totals.to_owned(),
            _ => line,
        };
        // Where a table was, one empty line is left.
        if !(line.is_empty() && lines.last().is_some_and(String::is_empty)) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}
