use super::*;

fn addresses() -> Addresses {
    Addresses {
        services: "247.0.0.0/8".parse().unwrap(),
        listener: "169.254.77.54".parse().unwrap(),
        dns: "169.254.77.53".parse().unwrap(),
    }
}

/// `tests/ruleset.nft` is what nft lists; the kernel tests compare it with the kernel's.
#[test]
fn the_rules_are_those_of_the_listing() {
    let listing = include_str!("../../tests/ruleset.nft");
    let lines: Vec<&str> = listing.lines().map(str::trim).collect();
    for chain in chains(addresses()) {
        let head = format!("chain {} {{", chain.name);
        let table =
            lines.iter().position(|line| *line == format!("table {} steppe {{", chain.family)).unwrap();
        let of_table = &lines[table + 1..];
        let start = of_table.iter().position(|line| *line == head).unwrap_or_else(|| panic!("no {head}"));
        let listed: Vec<_> = of_table[start + 1..]
            .iter()
            .take_while(|line| **line != "}")
            .filter(|line| !line.starts_with("type "))
            .collect();
        let words: Vec<_> = chain.rules.iter().map(|rule| &rule.words).collect();
        assert_eq!(words, listed, "{}", chain.name);
    }
    for set in SETS {
        let kind = if set.data.is_empty() { "set" } else { "map" };
        assert!(lines.contains(&&*format!("{kind} {} {{", set.text)), "{}", set.text);
    }
}

#[test]
fn chains_go_only_to_earlier_ones() {
    let mut known = Vec::new();
    for chain in chains(addresses()) {
        for step in chain.rules.iter().flat_map(|rule| &rule.steps) {
            if let Expression::Verdict(Verdict::Goto(target) | Verdict::Jump(target)) = step {
                assert!(
                    known.contains(&(chain.family, (*target).to_owned())),
                    "{} goes to {target}",
                    chain.name
                );
            }
        }
        known.push((chain.family, chain.name.into_owned()));
    }
}

#[test]
fn lookups_stay_in_their_table() {
    for chain in chains(addresses()) {
        for step in chain.rules.iter().flat_map(|rule| &rule.steps) {
            if let Expression::In(set, _)
            | Expression::NotIn(set, _)
            | Expression::Map(set, ..)
            | Expression::Follow(set, _) = step
            {
                assert_eq!(set.set().family, chain.family, "{}", chain.name);
            }
        }
    }
}

#[test]
fn the_stamp_follows_the_configuration_and_fits_a_comment() {
    let other = Addresses { services: "247.0.0.0/9".parse().unwrap(), ..addresses() };
    assert_eq!(stamp(addresses()), stamp(addresses()));
    assert_ne!(stamp(addresses()), stamp(other));
    assert!(stamp(addresses()).len() < 128);
}
