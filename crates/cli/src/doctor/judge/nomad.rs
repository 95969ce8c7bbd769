//! What a Nomad client must let the system job do, and what control must be let read.

use super::version;
use crate::doctor::{
    facts::{Acl, Facts, Nomad, Wanted},
    finding::Finding,
};

const ABOUT: &str = "nomad";
/// The plugin's own default and `net_admin`: a list in the configuration takes the default's place.
const ALLOW_CAPS: &str = r#"allow_caps = ["audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "mknod", "net_bind_service", "setfcap", "setgid", "setpcap", "setuid", "sys_chroot", "net_admin"]"#;

pub(super) fn judge(wanted: &Wanted, facts: &Facts) -> Vec<Finding> {
    let nomad = match &facts.nomad {
        None => return Vec::new(),
        Some(Err(why)) => {
            let fix = "set NOMAD_ADDR, NOMAD_CACERT and NOMAD_TOKEN as for `nomad` on this host (deploy/nomad/policy.hcl is enough)";
            return vec![Finding::unknown(ABOUT, why, fix)];
        }
        Some(Ok(nomad)) => nomad,
    };
    let says = format!("Nomad {}", nomad.version);
    let mut findings = vec![match version(&nomad.version) {
        Some(found) if found < (1, 0) => {
            Finding::fail(ABOUT, format!("{says}: too old"), "run Nomad 1.0 or later")
        }
        _ if !nomad.client => Finding::unknown(
            ABOUT,
            format!("{says}, of a server: a client's configuration is what matters"),
            "set NOMAD_ADDR to the agent of this host",
        ),
        _ => Finding::ok(ABOUT, says),
    }];
    if wanted.preflight && nomad.client {
        findings.extend(plugin(nomad));
    }
    findings.push(acl(&nomad.acl));
    findings
}

fn plugin(nomad: &Nomad) -> Vec<Finding> {
    let where_ =
        "in plugin \"docker\" { config { … } } of the client's configuration, and restart the client";
    let mut findings = Vec::new();
    let allows = |cap: &str| matches!(cap, "all" | "net_admin");
    if !nomad.allow_caps.iter().flatten().any(|cap| allows(cap)) {
        findings.push(Finding::fail(
            ABOUT,
            "the docker plugin does not let a job have net_admin, which the netfilter-agent needs",
            format!("write {ALLOW_CAPS} {where_}"),
        ));
    }
    if !nomad.volumes {
        findings.push(Finding::fail(
            ABOUT,
            "the docker plugin does not let a job mount directories of the host, and Steppe shares /run/steppe",
            format!("write volumes {{ enabled = true }} {where_}"),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ABOUT, "the docker plugin allows net_admin and volumes"));
    }
    findings
}

fn acl(acl: &Acl) -> Finding {
    match acl {
        Acl::Off => Finding::ok("acl", "there are none: control can read every job"),
        Acl::Management => Finding::warn(
            "acl",
            "the token may do everything",
            "give control one that only reads: nomad acl policy apply steppe-control deploy/nomad/policy.hcl",
        ),
        Acl::Lacks(lacks) if lacks.is_empty() => Finding::ok("acl", "the token can read every namespace"),
        Acl::Lacks(lacks) => Finding::fail(
            "acl",
            format!(
                "the token's policies lack {}: what it can't read is left out silently",
                lacks.join(", ")
            ),
            "nomad acl policy apply steppe-control deploy/nomad/policy.hcl, and a token with that policy",
        ),
        Acl::Unknown(why) => Finding::unknown(
            "acl",
            format!("the token's policies can't be read: {why}"),
            "set NOMAD_TOKEN to the one that control is going to have",
        ),
    }
}
