//! Round robin by weight, as a list of turns made once, so that a pick is an index and needs no lock.

/// The order in which the members of a pool get connections: one round, in which each member comes as often as its
/// weight says, spread evenly.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    turns: Box<[u16]>,
}

impl Rotation {
    /// One round over `members`, each with its number in the pool and its weight.
    ///
    /// A member of weight *w* has its turns in the middle of *w* equal parts of the round. Sorting all turns by that time
    /// gives the even spread of nginx's smooth weighted round robin, but no turn depends on the one before, so
    /// that several threads can share the rotation through one counter.
    pub(crate) fn new(members: impl IntoIterator<Item = (u16, u8)>) -> Self {
        let members: Vec<(u16, u32)> =
            members.into_iter().map(|(member, weight)| (member, u32::from(weight.max(1)))).collect();
        let divisor = members.iter().fold(0, |divisor, &(_, weight)| gcd(divisor, weight)).max(1);
        let mut turns: Vec<(u32, u32, u16)> = members
            .into_iter()
            .map(|(member, weight)| (member, weight / divisor))
            .flat_map(|(member, weight)| (0..weight).map(move |k| (2 * k + 1, weight, member)))
            .collect();
        turns.sort_unstable_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)).then(a.2.cmp(&b.2)));
        Self { turns: turns.into_iter().map(|(_, _, member)| member).collect() }
    }

    /// The member whose turn it is, or the next one in turn that was not tried yet.
    pub(crate) fn pick(&self, turn: u64, tried: &Tried) -> Option<u16> {
        let length = self.turns.len();
        // The remainder is below a usize.
        let start = turn.checked_rem(length as u64)? as usize;
        let (before, from) = self.turns.split_at(start);
        from.iter().chain(before).copied().find(|&member| !tried.contains(member))
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The members that a connection has tried. Empty, and without memory, until the first failure.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    bits: Vec<u64>,
}

impl Tried {
    /// Whether any was tried.
    pub(crate) fn any(&self) -> bool {
        !self.bits.is_empty()
    }

    /// How many were tried.
    pub(crate) fn count(&self) -> usize {
        self.bits.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    pub(crate) fn contains(&self, member: u16) -> bool {
        let (word, bit) = Self::place(member);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub(crate) fn insert(&mut self, member: u16) {
        let (word, bit) = Self::place(member);
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= bit;
    }

    /// None was tried.
    pub(crate) fn clear(&mut self) {
        self.bits.clear();
    }

    fn place(member: u16) -> (usize, u64) {
        (usize::from(member / 64), 1 << (member % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn numbered(weights: &[u8]) -> Rotation {
        Rotation::new(weights.iter().enumerate().map(|(i, &weight)| (i as u16, weight)))
    }

    #[test]
    fn equal_weights_take_turns() {
        let rotation = numbered(&[7, 7, 7]);
        let picks: Vec<_> = (0..6).map(|turn| rotation.pick(turn, &Tried::default()).unwrap()).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn nobody_is_picked_from_an_empty_rotation() {
        assert_eq!(Rotation::default().pick(3, &Tried::default()), None);
    }

    proptest! {
        #[test]
        fn a_round_gives_each_its_weight(weights in proptest::collection::vec(1..=100u8, 1..20), start in any::<u32>()) {
            let rotation = numbered(&weights);
            let length = rotation.turns.len() as u64;
            let mut seen = HashMap::new();
            for turn in 0..length {
                *seen.entry(rotation.pick(u64::from(start) + turn, &Tried::default()).unwrap()).or_insert(0u64) += 1;
            }
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            for (i, &weight) in weights.iter().enumerate() {
                prop_assert_eq!(seen[&(i as u16)] * total, u64::from(weight) * length);
            }
        }

        #[test]
        fn no_stretch_favours_anybody(weights in proptest::collection::vec(1..=100u8, 1..20)) {
            // After any number of turns each has had its share, give or take one turn.
            let rotation = numbered(&weights);
            let length = rotation.turns.len() as f64;
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let mut had = vec![0.0; weights.len()];
            for (turn, &member) in rotation.turns.iter().enumerate() {
                had[usize::from(member)] += 1.0;
                for (i, &weight) in weights.iter().enumerate() {
                    let share = f64::from(weight) / total * (turn as f64 + 1.0);
                    let members = weights.len() as f64;
                    prop_assert!((had[i] - share).abs() <= 1.0 + members / length * f64::from(weight), "{i}: {} {share}", had[i]);
                }
            }
        }

        #[test]
        fn each_member_is_tried_once(weights in proptest::collection::vec(1..=100u8, 1..40), turns in proptest::collection::vec(any::<u64>(), 40)) {
            let rotation = numbered(&weights);
            let mut tried = Tried::default();
            for &turn in turns.iter().take(weights.len()) {
                let member = rotation.pick(turn, &tried).unwrap();
                prop_assert!(!tried.contains(member));
                tried.insert(member);
            }
            prop_assert_eq!(rotation.pick(0, &tried), None);
        }
    }
}
