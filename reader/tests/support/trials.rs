//! Tests that say why they do not run.

use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};
use nix::unistd::geteuid;

/// Runs them. `missing`: what the machine lacks for all of them.
pub fn run(
    arguments: &Arguments,
    missing: Option<String>,
    tests: impl IntoIterator<Item = (&'static str, fn())>,
) -> Conclusion {
    let missing =
        if geteuid().is_root() { missing } else { Some("needs root: it makes a BPF ring".to_owned()) };
    let trials = tests.into_iter().map(|(name, test)| {
        let missing = missing.clone();
        Trial::ignorable_test(name, move || match missing {
            Some(missing) => Ok(Completion::ignored_with(missing)),
            None => std::panic::catch_unwind(test).map(|()| Completion::Completed).map_err(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                Failed::from(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default())
            }),
        })
    });
    libtest_mimic::run(arguments, trials.collect())
}
