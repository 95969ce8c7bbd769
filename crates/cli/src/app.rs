//! The wiring: ask, then print.

use anyhow::{Context as _, bail};
use steppe_daemon::RunDir;
use steppe_explain::Suite;

use crate::{
    args::{Args, Command, Dns, Network},
    dns,
    doctor::{self, Wanted},
    explain, network, output, ready, services, status,
    uninstall::{self, Options},
    workloads,
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
            Command::Doctor { audit: true, .. } => {
                let audit = doctor::audit(&suite).await.map_err(status::NobodyAnswers::from)?;
                (audit.exit_code(), if args.json { json(&audit)? } else { audit.render(paint) })
            }
            Command::Doctor { audit: false, preflight, addresses, user_cidr, listener_ports } => {
                let wanted = Wanted {
                    services: addresses.service_cidr,
                    listener: addresses.listener_address,
                    dns: addresses.dns_address,
                    users: *user_cidr,
                    ports: listener_ports.clone(),
                    preflight: *preflight,
                };
                let report = doctor::examine(&wanted, &args.run_dir).await;
                let text = if args.json { json(&report)? } else { report.render(paint) };
                (report.exit_code(), text)
            }
            Command::Uninstall { force, addresses, containers_dir } => {
                let run_dir = RunDir { run_dir: args.run_dir.clone() };
                let options = Options {
                    services: addresses.service_cidr,
                    listener: addresses.listener_address,
                    dns: addresses.dns_address,
                    containers: containers_dir.clone(),
                    force: *force,
                };
                let report = uninstall::run(&run_dir, &options).await;
                let text = if args.json { json(&report)? } else { report.render(paint) };
                (report.exit_code(), text)
            }
            Command::Workloads => {
                let workloads = workloads::gather(&suite).await?;
                (0, if args.json { json(&workloads)? } else { workloads.render(paint) })
            }
            Command::Explain { workload, service, addresses } => {
                let explanation = explain::gather(&suite, workload, service, *addresses).await;
                let text = if args.json { json(&explanation)? } else { explanation.render(paint) };
                (explanation.exit_code(), text)
            }
            Command::Network { order: Network::Ls } => {
                let networks = network::list(&suite).await?;
                (0, if args.json { json(&networks)? } else { networks.render(paint) })
            }
            Command::Network { order: order @ (Network::Ensure { user } | Network::Rm { user }) } => {
                let done = match order {
                    Network::Rm { .. } => network::remove(&suite, user).await,
                    _ => network::ensure(&suite, user).await,
                };
                (done.exit_code(), if args.json { json(&done)? } else { done.render(paint) })
            }
            Command::Dns { question: Dns::Query { workload, name, kind } } => {
                let told = dns::query(&suite, workload, name, kind).await;
                (told.exit_code(), if args.json { json(&told)? } else { told.render(paint) })
            }
        };
        output::print(&text).context("stdout")?;
        Ok(code)
    })
}

fn json(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
