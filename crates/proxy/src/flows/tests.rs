use proptest::prelude::*;

use super::*;

const IDLE: Duration = Duration::from_secs(60);

fn peers(client: u8, port: u8) -> Peers {
    let client = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, client), 1000 + u16::from(port));
    Peers { listener: u32::from(port % 2), client }
}

/// What the table is, told simply: the flows, the one that was idle the longest first.
#[derive(Default)]
struct Model(Vec<(Peers, Instant)>);

impl Model {
    fn count(&self, client: Ipv4Addr) -> usize {
        self.0.iter().filter(|(peers, _)| *peers.client.ip() == client).count()
    }

    fn oldest_of(&self, client: Ipv4Addr) -> Option<Peers> {
        self.0.iter().map(|(peers, _)| *peers).find(|peers| *peers.client.ip() == client)
    }

    fn dispensable(&self) -> Option<Peers> {
        let most = self.0.iter().map(|(peers, _)| *peers.client.ip()).max_by_key(|ip| (self.count(*ip), *ip));
        most.and_then(|client| self.oldest_of(client))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send(u8, u8),
    Wait(u64),
    Remove(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6u8, 0..12u8).prop_map(|(client, port)| Step::Send(client, port)),
        2 => (0..40u64).prop_map(Step::Wait),
        1 => (0..6u8, 0..12u8).prop_map(|(client, port)| Step::Remove(client, port)),
    ]
}

proptest! {
    #[test]
    fn it_is_what_a_simple_list_is(limit in 1..20usize, steps in proptest::collection::vec(step(), 1..200)) {
        let limits = Limits::new(limit);
        let mut flows = Flows::new(limits, IDLE);
        let mut model = Model::default();
        let mut now = Instant::now();
        for step in steps {
            match step {
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    while let Some(index) = flows.overdue(now) {
                        let (ended, _) = flows.remove(index).unwrap();
                        let (oldest, used) = model.0.remove(0);
                        prop_assert_eq!(ended, oldest);
                        prop_assert!(used + IDLE <= now);
                    }
                    prop_assert!(model.0.iter().all(|(_, used)| *used + IDLE > now));
                }
                Step::Send(client, port) => {
                    let peers = peers(client, port);
                    let ip = *peers.client.ip();
                    match flows.find(&peers) {
                        Some(index) => {
                            flows.touch(index, now);
                            model.0.retain(|(known, _)| *known != peers);
                        }
                        None => {
                            if let Some(victim) = flows.in_the_way_of(ip) {
                                let (gone, flow) = flows.remove(victim).unwrap();
                                prop_assert_eq!(gone, flow);
                                let own_bound = model.count(ip) >= limits.per_client;
                                prop_assert!(own_bound || model.0.len() >= limits.flows);
                                let expected = if own_bound { model.oldest_of(ip) } else { model.dispensable() };
                                prop_assert_eq!(Some(gone), expected);
                                model.0.retain(|(known, _)| *known != gone);
                            }
                            prop_assert_eq!(flows.in_the_way_of(ip), None);
                            flows.insert(peers, now, peers);
                        }
                    }
                    model.0.push((peers, now));
                }
                Step::Remove(client, port) => {
                    let peers = peers(client, port);
                    if let Some(index) = flows.find(&peers) {
                        flows.remove(index);
                    }
                    model.0.retain(|(known, _)| *known != peers);
                }
            }
            let mut there: Vec<_> = flows.iter().map(|(_, peers, _)| peers).collect();
            let mut expected: Vec<_> = model.0.iter().map(|(peers, _)| *peers).collect();
            there.sort_unstable_by_key(|peers| (peers.client, peers.listener));
            expected.sort_unstable_by_key(|peers| (peers.client, peers.listener));
            prop_assert_eq!(there, expected);
            prop_assert!(model.0.len() <= limits.flows);
            prop_assert_eq!(flows.next_end(), model.0.first().map(|(_, used)| *used + IDLE));
            for (peers, _) in &model.0 {
                let index = flows.find(peers).unwrap();
                prop_assert_eq!(flows.get_mut(index).unwrap(), (*peers, &mut peers.clone()));
                prop_assert!(model.count(*peers.client.ip()) <= limits.per_client);
            }
        }
    }
}

#[test]
fn who_opens_flows_without_end_displaces_his_own() {
    let now = Instant::now();
    let mut flows = Flows::new(Limits::new(8), IDLE);
    let open = |flows: &mut Flows<()>, peers: Peers| {
        if let Some(victim) = flows.in_the_way_of(*peers.client.ip()) {
            flows.remove(victim);
        }
        flows.insert(peers, now, ());
    };
    (0..3).for_each(|honest| open(&mut flows, peers(honest, 0)));
    for port in 0..200 {
        open(&mut flows, peers(9, port));
    }
    assert!((0..3).all(|honest| flows.find(&peers(honest, 0)).is_some()));
    assert_eq!(flows.iter().count(), 3 + 2);
}
