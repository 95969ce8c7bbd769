//! What is to be done with a container's resolv.conf. Pure.

use std::net::Ipv4Addr;

use steppe_model::resolv_conf as text;

use super::container::{Facts, Mode};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Docker is not done with it: look again when the file has changed.
    Wait,
    /// It stays as it is: it leads to dns, or it does not, and why.
    Leave(Result<(), String>),
    /// This is written, and then it leads to dns, or it does not, and why.
    Write(String, Result<(), String>),
}

/// `is_untouched` says that nobody has written the file since Docker did.
pub(super) fn judge(facts: &Facts, found: &str, is_untouched: bool, server: Ipv4Addr) -> Verdict {
    if let Some(ours) = text::read(found) {
        return match (chosen_otherwise(facts, server), ours.server) {
            (Some(why), Some(_)) => Verdict::Write(ours.original, Err(why)),
            (None, Some(written)) if written == server => Verdict::Leave(Ok(())),
            (None, Some(_)) => Verdict::Write(text::write(&ours.original, server), Ok(())),
            (_, None) => Verdict::Leave(Err(CHANGED.to_owned())),
        };
    }
    if found.is_empty() {
        return Verdict::Wait;
    }
    if text::leads_to(found, server) {
        return Verdict::Leave(Ok(()));
    }
    let is_dockers_resolver = text::is_dockers_resolver(found);
    if is_dockers_resolver && facts.chose(server) && !facts.is_gvisor {
        // Docker's resolver asks from inside the container, so dns sees who it is.
        return Verdict::Leave(Ok(()));
    }
    if let Some(why) = chosen_otherwise(facts, server) {
        // What Docker found of ours and kept.
        let is_ours = is_dockers_resolver && !facts.search.iter().any(|domain| domain == text::ZONE);
        let dockers = if is_ours { text::without_zone(found) } else { found.to_owned() };
        return if dockers == found { Verdict::Leave(Err(why)) } else { Verdict::Write(dockers, Err(why)) };
    }
    // Docker's resolver takes its own servers from the file as it finds it. It must not find ours there: it would keep them.
    if facts.has_dockers_resolver() && !is_dockers_resolver {
        return if is_untouched { Verdict::Wait } else { Verdict::Leave(Err(CHANGED.to_owned())) };
    }
    if !is_dockers_resolver && !is_untouched {
        return Verdict::Leave(Err(CHANGED.to_owned()));
    }
    Verdict::Write(text::write(found, server), Ok(()))
}

const CHANGED: &str = "something in the container has written its /etc/resolv.conf";

/// Why it must not lead to dns, if so.
fn chosen_otherwise(facts: &Facts, server: Ipv4Addr) -> Option<String> {
    if facts.mode == Mode::Host {
        return Some("it uses the host's network, and its names".to_owned());
    }
    if !facts.dns.is_empty() && !facts.chose(server) {
        let chosen = facts.dns.join(", ");
        return Some(format!("its author chose the servers {chosen} (dns); they are left"));
    }
    // gVisor has no such resolver to lose.
    let network = facts.foreign_network().filter(|_| !facts.is_gvisor)?;
    Some(format!(
        "it is on Docker's network {network}, whose names Docker's own resolver knows; that one leads here when the job's or the \
         daemon's dns is {server}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 53);
    const HOSTS: &str = "nameserver 10.0.0.1\n";
    const DOCKERS: &str = "nameserver 127.0.0.11\noptions ndots:0\n";

    fn on(networks: &[&str]) -> Facts {
        Facts {
            mode: Mode::Own,
            dns: Vec::new(),
            search: Vec::new(),
            is_gvisor: false,
            networks: networks.iter().map(|&name| name.to_owned()).collect(),
            mounts_own: false,
        }
    }

    fn write(dockers: &str) -> Verdict {
        Verdict::Write(text::write(dockers, SERVER), Ok(()))
    }

    fn left(verdict: &Verdict) -> &str {
        let (Verdict::Leave(Err(why)) | Verdict::Write(_, Err(why))) = verdict else { panic!("{verdict:?}") };
        why
    }

    #[test]
    fn dockers_last_word_is_waited_for() {
        assert_eq!(judge(&on(&["bridge"]), HOSTS, true, SERVER), write(HOSTS));
        assert_eq!(judge(&on(&["none"]), HOSTS, true, SERVER), write(HOSTS));
        assert_eq!(judge(&on(&["steppe-alice"]), HOSTS, true, SERVER), Verdict::Wait);
        // 20.10 writes down nothing of this one.
        assert_eq!(judge(&on(&["steppe-alice"]), DOCKERS, false, SERVER), write(DOCKERS));
        assert_eq!(judge(&on(&["bridge"]), "", true, SERVER), Verdict::Wait);
    }

    #[test]
    fn what_leads_to_us_is_left() {
        let ours = text::write(HOSTS, SERVER);
        for found in [ours.as_str(), "nameserver 169.254.77.53\n"] {
            assert_eq!(judge(&on(&["bridge"]), found, false, SERVER), Verdict::Leave(Ok(())));
        }
        let chosen = Facts { dns: vec![SERVER.to_string()], ..on(&["app"]) };
        assert_eq!(judge(&chosen, DOCKERS, true, SERVER), Verdict::Leave(Ok(())));
        let gvisor = Facts { is_gvisor: true, ..chosen };
        assert_eq!(judge(&gvisor, DOCKERS, true, SERVER), write(DOCKERS));
        let before = text::write(HOSTS, Ipv4Addr::new(169, 254, 1, 1));
        assert_eq!(judge(&on(&["bridge"]), &before, false, SERVER), write(HOSTS));
    }

    #[test]
    fn what_others_chose_is_left() {
        let chosen = Facts { dns: vec!["10.9.9.9".to_owned()], ..on(&["bridge"]) };
        assert!(left(&judge(&chosen, "nameserver 10.9.9.9\n", true, SERVER)).contains("10.9.9.9"));
        assert!(left(&judge(&on(&["app"]), DOCKERS, true, SERVER)).contains("network app"));
        assert!(left(&judge(&on(&["app", "steppe-alice"]), DOCKERS, true, SERVER)).contains("network app"));
        let host = Facts { mode: Mode::Host, ..on(&["host"]) };
        assert!(left(&judge(&host, HOSTS, true, SERVER)).contains("host's network"));
        // Written from inside.
        assert_eq!(left(&judge(&on(&["bridge"]), "nameserver 1.1.1.1\n", false, SERVER)), CHANGED);
        assert_eq!(left(&judge(&on(&["steppe-a"]), "nameserver 1.1.1.1\n", false, SERVER)), CHANGED);
        let changed = text::write(HOSTS, SERVER) + "nameserver 1.1.1.1\n";
        assert_eq!(left(&judge(&on(&["bridge"]), &changed, false, SERVER)), CHANGED);
    }

    #[test]
    fn a_container_that_comes_to_a_foreign_network_gets_dockers_words_back() {
        let verdict = judge(&on(&["steppe-alice", "app"]), &text::write(DOCKERS, SERVER), false, SERVER);
        assert!(matches!(&verdict, Verdict::Write(text, Err(_)) if text == DOCKERS), "{verdict:?}");
        // Docker's own, made of ours.
        let remade = format!("search steppe.internal\n{DOCKERS}");
        let verdict = judge(&on(&["app"]), &remade, false, SERVER);
        assert!(matches!(&verdict, Verdict::Write(text, Err(_)) if text == DOCKERS), "{verdict:?}");
        let chosen = Facts { search: vec![text::ZONE.to_owned()], ..on(&["app"]) };
        assert!(matches!(judge(&chosen, &remade, false, SERVER), Verdict::Leave(Err(_))));
    }

    #[test]
    fn gvisor_has_no_resolver_of_dockers() {
        let gvisor = Facts { is_gvisor: true, ..on(&["app"]) };
        assert_eq!(judge(&gvisor, DOCKERS, false, SERVER), write(DOCKERS));
    }
}
