//! Measures the chain on this machine and prints each figure beside its bar (docs/benchmarks.md says what they mean).
//!
//! It starts the shipped reader and itself, loads the shipped programs under names of its own, and sends no packet
//! beyond its own network namespaces' loopbacks. It knows `abi`, `manager` and `reader`, and nothing knows it.

mod bpf;
mod caller;
mod chain;
mod endpoint;
mod figure;
mod flood;
mod growth;
mod hooks;
mod pipeline;
mod place;
mod plot;
mod processor;
mod reader_process;
mod run;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;

use figure::Figures;

/// Measure the chain, and print each figure beside its bar.
#[derive(Parser)]
#[command(name = "bench")]
struct Options {
    /// Under a minute: fewer rounds, smaller sizes. Its figures are noisier.
    #[arg(long)]
    quick: bool,

    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the plots to this folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,

    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<run::Part>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let result = match arguments.as_slice() {
        [_, role, cgroup] if role == caller::ROLE => caller::main(cgroup).map(|()| ExitCode::SUCCESS),
        _ => measure(&Options::parse()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("bench: {error:#}");
        ExitCode::FAILURE
    })
}

/// A figure that misses its bar is not a failure: bars are of one machine, and this may be another.
fn measure(options: &Options) -> anyhow::Result<ExitCode> {
    let mut figures = Figures::default();
    let curves = run::all(&mut figures, &options.only, options.quick)?;
    println!("{}", figures.table());
    println!("{} figures, {} miss their bars", figures.all().len(), figures.missed());
    if let Some(file) = &options.json {
        let json = serde_json::json!({"machine": run::machine(), "quick": options.quick, "figures": figures, "curves": curves});
        fs::write(file, format!("{json:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(folder) = &options.plots {
        plot::all(folder, &figures, &curves)
            .with_context(|| format!("cannot plot to {}", folder.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
