//! A hundred thousand grants, twenty thousand services: how long it takes is printed, and that it is right is asserted.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use steppe_api::v1::{self, Protocol, resource::Kind};

use crate::{
    agent::Agent,
    control::{
        Control, VIP, block_on, grant_to, service_port_with, takeover, virtual_ip, workload, workload_id,
    },
    net::Host,
};

const GRANTS: u32 = 100_000;
const ROUNDS: usize = 51;
const SERVICES: u32 = 20_000;
const ENDPOINTS: [(SocketAddr, u32); 3] = [endpoint(5), endpoint(6), endpoint(7)];

const fn endpoint(last: u8) -> (SocketAddr, u32) {
    (SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), 80), 1)
}

#[test]
fn a_hundred_thousand_grants() {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let container = host.container(2);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        control.port_of(&container).await;
        let id = workload_id(&container);
        let grants = (0..GRANTS).map(|i| grant_to(&id, (0xf700_0000 + i).into(), Protocol::Tcp, 80));
        let resources = std::iter::once(workload(&host, &container)).chain(grants).collect();
        let began = Instant::now();
        assert_eq!(control.snapshot(resources).await, []);
        println!("load of {GRANTS} over gRPC: {:?}", began.elapsed());
        // A workload that is not guarded has three of its own.
        assert_eq!(control.status().await.elements, u64::from(GRANTS) + 3);
        let one = grant_to(&id, (0xf700_0000 + GRANTS).into(), Protocol::Tcp, 80);
        let (mut more, mut less) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            assert_eq!(control.upsert(vec![one.clone()]).await, []);
            more.push(began.elapsed());
            let began = Instant::now();
            assert_eq!(control.remove(&one.id).await, []);
            less.push(began.elapsed());
        }
        more.sort();
        less.sort();
        println!("one more, there and back over gRPC: median {:?}", more[ROUNDS / 2]);
        println!("one less, there and back over gRPC: median {:?}", less[ROUNDS / 2]);
    });
    let dir = agent.kill();
    let began = Instant::now();
    let agent = Agent::start_in(&host, &[], dir);
    println!("adoption, with the start of the process: {:?}", began.elapsed());
    block_on(async {
        let mut control = Control::connect(&agent).await;
        assert_eq!(control.inventory.len(), GRANTS as usize + 1);
        let began = Instant::now();
        host.remove_port(&container);
        let client = control.client.clone();
        crate::control::until("the port's grants are gone", || {
            let mut client = client.clone();
            async move {
                let request = steppe_api::v1::GetNetfilterStatusRequest {};
                client.get_status(request).await.unwrap().into_inner().elements == 0
            }
        })
        .await;
        println!("a port with {GRANTS} grants goes: {:?}", began.elapsed());
        assert!(control.grants().await.is_empty());
    });
}

fn service(number: u32, endpoints: usize) -> [v1::Resource; 2] {
    let vip = Ipv4Addr::from(0xf700_0000 + number).to_string();
    let mut resources = [virtual_ip(), service_port_with(Protocol::Tcp, 80, None, &ENDPOINTS[..endpoints])];
    for resource in &mut resources {
        resource.id = resource.id.replace(VIP, &vip);
        match &mut resource.kind {
            Some(Kind::VirtualIp(content)) => content.vip.clone_from(&vip),
            Some(Kind::ServicePort(content)) => content.vip.clone_from(&vip),
            other => panic!("{other:?}"),
        }
    }
    resources
}

/// How long it takes to put each of these in force in turn, there and back over gRPC: the median.
async fn turns(control: &mut Control, turns: [v1::Resource; 2]) -> Duration {
    let mut took = Vec::new();
    for resource in turns.iter().cycle().take(ROUNDS) {
        let began = Instant::now();
        assert_eq!(control.upsert(vec![resource.clone()]).await, []);
        took.push(began.elapsed());
    }
    took.sort();
    took[ROUNDS / 2]
}

#[test]
fn twenty_thousand_services_of_three_endpoints() {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        let resources = (0..SERVICES).flat_map(|number| service(number, 3)).collect();
        let began = Instant::now();
        assert_eq!(control.snapshot(resources).await, []);
        println!("load of {SERVICES} services over gRPC: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert_eq!(control.status().await.elements, u64::from(SERVICES) * 5);
        let [_, three] = service(7, 3);
        let [_, two] = service(7, 2);
        let mut other = three.clone();
        if let Some(Kind::ServicePort(content)) = &mut other.kind {
            content.endpoints[1].address.as_mut().unwrap().port = 81;
        }
        let endpoint = turns(&mut control, [other, three.clone()]).await;
        let number = turns(&mut control, [two, three.clone()]).await;
        assert_eq!(control.upsert(vec![three]).await, []);
        println!("one endpoint another: median {endpoint:?}; one endpoint more or less: median {number:?}");
        let began = Instant::now();
        assert_eq!(control.upsert(vec![takeover()]).await, []);
        println!("takeover: {:?}", began.elapsed());
    });
    let dir = agent.kill();
    let began = Instant::now();
    let agent = Agent::start_in(&host, &[], dir);
    println!("adoption, with the start of the process: {:?}", began.elapsed());
    block_on(async {
        let mut control = Control::connect(&agent).await;
        assert_eq!(control.inventory.len(), SERVICES as usize * 2 + 1);
        assert_eq!(control.status().await.elements, u64::from(SERVICES) * 5 + 2);
    });
}
