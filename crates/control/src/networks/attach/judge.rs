//! Whether a container can be moved to its user's network, from what Docker says of it. Pure.

use std::collections::BTreeSet;

use bollard::models::ContainerInspectResponse;

/// Docker's default network.
pub(super) const DEFAULT: &str = "bridge";

/// Runtimes whose containers take a new interface while they run: they use the kernel's own network.
const TAKE_INTERFACES: [&str; 6] =
    ["runc", "io.containerd.runc.v2", "io.containerd.runc.v1", "crun", "youki", "nvidia"];

/// What can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is where it should be, and nowhere else.
    There,
    /// It is on the default bridge alone.
    Move,
    /// It is on both: somebody was interrupted.
    Finish,
    /// It can't be moved, and why, and what to do.
    Never(String),
    /// The same, and somebody had begun.
    Undo(String),
}

/// Judges a container that is to be on this network.
pub(super) fn judge(container: &ContainerInspectResponse, network: &str) -> Verdict {
    let mode = mode(container);
    if matches!(mode, "host" | "none") || mode.starts_with("container:") {
        return Verdict::Never(format!("it has no network of its own: its network mode is {mode}"));
    }
    let on = networks(container);
    match on.iter().copied().collect::<Vec<_>>()[..] {
        [one] if one == network => return Verdict::There,
        [DEFAULT] => {}
        [DEFAULT, other] if other == network && matches!(mode, DEFAULT | "default" | "") => {}
        [] => return Verdict::Never("it is on no network".to_owned()),
        [one] => return Verdict::Never(format!("it is on the network {one}, not on the default bridge")),
        _ => {
            let all = on.into_iter().collect::<Vec<_>>().join(", ");
            return Verdict::Never(format!("it is on several networks: {all}"));
        }
    }
    let is_half_done = on.contains(network);
    if let Some(why) = breaks_when_running(container).filter(|_| is_running(container)) {
        return if is_half_done { Verdict::Undo(why) } else { Verdict::Never(why) };
    }
    if is_half_done { Verdict::Finish } else { Verdict::Move }
}

/// Why a container must not change its network while it runs.
pub(super) fn breaks_when_running(container: &ContainerInspectResponse) -> Option<String> {
    let runtime = container.host_config.as_ref().and_then(|host| host.runtime.as_deref()).unwrap_or("runc");
    if !TAKE_INTERFACES.contains(&runtime) {
        return Some(format!(
            "it runs already, and takes no other interface under {runtime}: stop it, and start it again some seconds later"
        ));
    }
    let port = floating_port(container)?;
    Some(format!(
        "it runs already, and the host's port for its {port}, which Docker chose, would be another: stop it, and start it again some seconds later, \
         or give the port a number"
    ))
}

/// Whether it has a process.
pub(super) fn is_running(container: &ContainerInspectResponse) -> bool {
    container.state.as_ref().and_then(|state| state.running).unwrap_or(false)
}

/// Whether it is on a network, or will be when it starts.
pub(super) fn is_on(container: &ContainerInspectResponse, network: &str) -> bool {
    networks(container).contains(network)
}

/// The names of the networks that it is on, or will be when it starts.
fn networks(container: &ContainerInspectResponse) -> BTreeSet<&str> {
    let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    networks.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

fn mode(container: &ContainerInspectResponse) -> &str {
    container.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).unwrap_or_default()
}

/// A published port whose number on the host Docker chose, such as `80/tcp`: it chooses anew for another network.
fn floating_port(container: &ContainerInspectResponse) -> Option<&str> {
    let host = container.host_config.as_ref()?;
    let bindings = host.port_bindings.iter().flatten();
    let is_fixed =
        |number: Option<&String>| number.is_some_and(|number| number.parse().unwrap_or(0_u16) != 0);
    let mut floating = bindings.filter(|(_, bindings)| {
        bindings.iter().flatten().any(|binding| !is_fixed(binding.host_port.as_ref()))
    });
    if let Some((port, _)) = floating.next() {
        return Some(port);
    }
    host.publish_all_ports.unwrap_or(false).then_some("exposed ports")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// One on the default bridge, with changes.
    fn verdict(change: impl FnOnce(&mut Value)) -> Verdict {
        let mut container = json!({
            "State": { "Running": false },
            "HostConfig": { "NetworkMode": "default", "Runtime": "runc", "PortBindings": {} },
            "NetworkSettings": { "Networks": { "bridge": {} } },
        });
        change(&mut container);
        judge(&serde_json::from_value(container).unwrap(), "steppe-alice")
    }

    #[track_caller]
    fn assert_never(verdict: Verdict, says: &str) {
        assert!(matches!(&verdict, Verdict::Never(why) if why.contains(says)), "{verdict:?}");
    }

    #[test]
    fn who_is_on_the_default_bridge_alone_can_be_moved() {
        assert_eq!(verdict(|_| {}), Verdict::Move);
        assert_eq!(verdict(|c| c["State"]["Running"] = true.into()), Verdict::Move);
        let networks = |c: &mut Value, names: &[&str]| {
            c["NetworkSettings"]["Networks"] =
                names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        };
        assert_eq!(verdict(|c| networks(c, &["steppe-alice"])), Verdict::There);
        assert_eq!(verdict(|c| networks(c, &["steppe-alice", "bridge"])), Verdict::Finish);
        assert_never(verdict(|c| networks(c, &["bridge", "own"])), "bridge, own");
        assert_never(verdict(|c| networks(c, &["own"])), "network own");
        assert_never(verdict(|c| networks(c, &[])), "no network");
        let both = verdict(|c| {
            networks(c, &["steppe-alice", "bridge"]);
            c["HostConfig"]["NetworkMode"] = "steppe-alice".into();
        });
        assert_never(both, "several");
        for mode in ["host", "none", "container:abc"] {
            assert_never(verdict(|c| c["HostConfig"]["NetworkMode"] = mode.into()), mode);
        }
    }

    #[test]
    fn what_would_break_is_moved_only_before_it_starts() {
        let gvisor = |running: bool| {
            verdict(|c| {
                c["State"]["Running"] = running.into();
                c["HostConfig"]["Runtime"] = "runsc".into();
            })
        };
        assert_eq!(gvisor(false), Verdict::Move);
        assert_never(gvisor(true), "runsc");
        let half_done = verdict(|c| {
            c["State"]["Running"] = true.into();
            c["HostConfig"]["Runtime"] = "runsc".into();
            c["NetworkSettings"]["Networks"] = json!({ "bridge": {}, "steppe-alice": {} });
        });
        assert!(matches!(&half_done, Verdict::Undo(why) if why.contains("runsc")), "{half_done:?}");
        let publishing = |running: bool, port: &str| {
            verdict(|c| {
                c["State"]["Running"] = running.into();
                c["HostConfig"]["PortBindings"] = json!({ "80/tcp": [{ "HostIp": "", "HostPort": port }] });
            })
        };
        assert_eq!(publishing(true, "24011"), Verdict::Move);
        assert_eq!(publishing(false, ""), Verdict::Move);
        for port in ["", "0", "24000-24010"] {
            assert_never(publishing(true, port), "80/tcp");
        }
        let all = verdict(|c| {
            c["State"]["Running"] = true.into();
            c["HostConfig"]["PublishAllPorts"] = true.into();
        });
        assert_never(all, "exposed ports");
    }
}
