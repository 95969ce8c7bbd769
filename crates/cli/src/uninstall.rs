//! `steppe uninstall`: nothing of Steppe is left on this host. Containers run on, and have the names that Docker gave them.
//!
//! What a process has put, its own `--purge` removes; here they are run one by one, what is left is removed, and it is
//! looked whether anything stayed. A step that fails does not keep the others from being done.

mod networks;
mod resolv_conf;
mod steps;

use std::{
    env, io,
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ipnet::Ipv4Net;
use steppe_daemon::{Process, RunDir};

pub(crate) use steps::{Report, Step};

use crate::doctor::{self, Leftovers};

/// The processes, whose sockets are in the run directory.
const PROCESSES: [Process; 6] =
    [Process::Control, Process::Proxy, Process::NetfilterAgent, Process::Dns, Process::DnsA, Process::DnsB];
const NETFILTER_AGENT: &str = "steppe-netfilter-agent";

/// What was said to the agents, and to this.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) services: Ipv4Net,
    pub(crate) listener: Ipv4Addr,
    pub(crate) dns: Ipv4Addr,
    /// Docker's directory of containers.
    pub(crate) containers: PathBuf,
    /// Go on although processes run.
    pub(crate) force: bool,
}

/// Removes everything.
pub(crate) async fn run(run_dir: &RunDir, options: &Options) -> Report {
    let running = running(run_dir);
    let mut report = Report::default();
    if !running.is_empty() && !options.force {
        report.steps.push(Step::failed("processes", &refusal(&running)));
        return report;
    }
    report.steps.push(Step::of("tables, route and addresses", purge(run_dir, options)));
    report.steps.push(resolv_conf::put_back(&options.containers));
    report.steps.extend(networks::remove().await);
    let left = doctor::leftovers(options.services, [options.listener, options.dns]);
    report.steps.extend(left_over(&left));
    report.steps.push(steps::remove_run_dir(run_dir, &PROCESSES));
    report
}

/// The processes that answer on their sockets.
fn running(run_dir: &RunDir) -> Vec<Process> {
    PROCESSES.into_iter().filter(|process| UnixStream::connect(run_dir.socket(*process)).is_ok()).collect()
}

fn refusal(running: &[Process]) -> String {
    let names: Vec<&str> = running.iter().map(|process| process.name()).collect();
    let names = names.join(", ");
    format!(
        "{names}: running, so nothing is removed: stop it (nomad job stop steppe, or systemctl stop 'steppe-*'), or say --force"
    )
}

/// The netfilter-agent removes what it put.
fn purge(run_dir: &RunDir, options: &Options) -> Result<String, String> {
    // It takes its socket, so that no other of its kind runs meanwhile.
    run_dir.prepare().map_err(|error| error.to_string())?;
    let program = find(NETFILTER_AGENT).ok_or_else(|| {
        format!("{NETFILTER_AGENT} is neither beside this program nor in PATH: it removes what it put")
    })?;
    let mut command = Command::new(&program);
    command.arg("--purge").arg("--run-dir").arg(&run_dir.run_dir);
    command.arg("--service-cidr").arg(options.services.to_string());
    command.arg("--listener-address").arg(options.listener.to_string());
    command.arg("--dns-address").arg(options.dns.to_string());
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok("removed by steppe-netfilter-agent --purge".into());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    Err(format!("{NETFILTER_AGENT} --purge failed ({}): {last}", output.status))
}

/// A program of Steppe: beside this one, else in PATH.
fn find(name: &str) -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = beside.into_iter().chain(env::split_paths(&path));
    directories.map(|directory| directory.join(name)).find(|program| is_file(program))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file())
}

/// What stayed all the same, by the kernel's own word.
fn left_over(left: &Leftovers) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut look = |what: &str, there: bool, fix: &str| {
        if there {
            steps.push(Step::failed(what, &format!("still there: {fix}")));
        }
    };
    look("tables", left.tables, "nft delete table inet steppe; nft delete table bridge steppe");
    look("route", left.route, "ip route del unreachable CIDR, with the --service-cidr that the agent had");
    look(
        "address",
        left.address,
        "ip addr del ADDRESS/32 dev lo, with the --listener-address and the --dns-address that the agent had",
    );
    if let Some(why) = &left.unseen {
        steps.push(Step::failed("tables", &format!("it could not be seen whether any is left: {why}")));
    }
    steps
}

/// What a removal comes to: what is not there is as good as removed.
fn removed(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn nothing_is_removed_while_a_process_runs() {
        let home = tempfile::tempdir().unwrap();
        let run_dir = RunDir { run_dir: home.path().to_owned() };
        let proxy = UnixListener::bind(run_dir.socket(Process::Proxy)).unwrap();
        drop(UnixListener::bind(run_dir.socket(Process::Control)).unwrap());
        let options = Options {
            services: "247.0.0.0/8".parse().unwrap(),
            listener: Ipv4Addr::LOCALHOST,
            dns: Ipv4Addr::LOCALHOST,
            containers: home.path().join("containers"),
            force: false,
        };
        let report = run(&run_dir, &options).await;
        assert_eq!(report.exit_code(), 1);
        assert!(report.steps[0].says.starts_with("proxy: running"), "{report:?}");
        assert!(run_dir.socket(Process::Control).exists());
        drop(proxy);
        assert!(running(&run_dir).is_empty());
    }

    #[test]
    fn what_stayed_is_named_with_its_remedy() {
        assert!(left_over(&Leftovers::default()).is_empty());
        let left = Leftovers { tables: true, route: true, address: true, unseen: Some("why".into()) };
        let steps = left_over(&left);
        assert_eq!(steps.len(), 4);
        assert!(steps.iter().all(|step| !step.done));
    }
}
