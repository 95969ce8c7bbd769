use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> GrantSpec {
    parse_grant(text).unwrap()
}

#[test]
fn every_part_is_read() {
    let grant = parsed(" bob / PG#primary : 5432 / udp ");
    assert_eq!(grant.user.as_ref().unwrap().as_str(), "bob");
    assert_eq!(grant.name.as_str(), "pg");
    assert_eq!(grant.tag.as_ref().unwrap().as_str(), "primary");
    assert_eq!(grant.port, VirtualPort::new(Protocol::Udp, 5432));
    assert_eq!(grant.to_string(), "bob/pg#primary:5432/udp");
}

#[test]
fn no_port_is_every_tcp_port() {
    assert_eq!(parsed("redis").port, VirtualPort::ANY);
    assert_eq!(parsed("redis:6379"), parsed("redis:6379/tcp"));
}

#[test]
fn a_malformed_grant_does_not_spoil_its_neighbours() {
    let all: Vec<_> = parse_connect_to("web:80, a b:99999 ,, redis").collect();
    assert_eq!(all.len(), 4);
    assert_eq!(all[0].as_ref().unwrap().to_string(), "web:80");
    assert!(all[1].as_ref().unwrap_err().to_string().contains("port `99999`"));
    assert!(all[2].as_ref().unwrap_err().reason.starts_with("empty"));
    assert_eq!(all[3].as_ref().unwrap().to_string(), "redis");
}

#[test]
fn what_is_wrong_is_said() {
    for (text, said) in [
        ("web@dc2", "not yet"),
        ("web:0", "1 to 65535"),
        ("web:+80", "1 to 65535"),
        ("web:", "1 to 65535"),
        ("web:80/sctp", "neither `tcp` nor `udp`"),
        ("web:80/tcp/tcp", "neither"),
        ("a/b/c", "not a service name"),
        ("/web", "not a user name"),
        ("web#", "not a tag"),
        ("we!b", "not a service name"),
        ("we b:80", "not a service name"),
    ] {
        let error = parse_grant(text).unwrap_err();
        assert!(error.reason.contains(said), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        for grant in parse_connect_to(&text) {
            if let Err(malformed) = grant {
                prop_assert!(!malformed.reason.is_empty());
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        text in "([A-Za-z0-9_-]{1,63}/)?[a-z0-9_-]{1,63}(#[A-Za-z0-9_.-]{1,40})?(:[1-9][0-9]{0,3}(/udp)?)?",
    ) {
        prop_assert_eq!(parsed(&text).to_string(), text);
    }
}
