//! The wiring: ask, then print.

use anyhow::{Context as _, bail};
use steppe_explain::Suite;

use crate::{
    args::{Args, Command},
    explain, output, ready, services, status, workloads,
};

/// Runs a command and gives its exit code.
///
/// # Errors
/// When nothing can be said: nobody answers, or stdout can't be written to.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime: check the limit on open files (ulimit -n)")?;
    let suite = Suite::new(args.run_dir.clone());
    let paint = output::paint(args.color);
    runtime.block_on(async {
        let (code, text) = match &args.command {
            Command::Status => {
                let status = status::gather(&suite).await?;
                let text = if args.json { json(&status)? } else { status.render(paint) };
                (status.exit_code(), text)
            }
            Command::Ready { component } => match ready::ask(&suite, *component).await {
                Ok(()) => return Ok(0),
                Err(away) => bail!("{} is not ready: {}", away.process.name(), away.reason()),
            },
            Command::Services { no_rates } => {
                let services = services::gather(&suite, !no_rates && !args.json).await?;
                (0, if args.json { json(&services)? } else { services.render(paint) })
            }
            Command::Workloads => {
                let workloads = workloads::gather(&suite).await?;
                (0, if args.json { json(&workloads)? } else { workloads.render(paint) })
            }
            Command::Explain { workload, service } => {
                let explanation = explain::gather(&suite, workload, service).await;
                let text = if args.json { json(&explanation)? } else { explanation.render(paint) };
                (explanation.exit_code(), text)
            }
        };
        output::print(&text).context("stdout")?;
        Ok(code)
    })
}

fn json(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
