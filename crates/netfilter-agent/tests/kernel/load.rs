//! A hundred thousand grants: how long it takes is printed, and that it is right is asserted.

use std::time::Instant;

use steppe_api::v1::Protocol;

use crate::{
    agent::Agent,
    control::{Control, block_on, grant_to, workload, workload_id},
    net::Host,
};

const GRANTS: u32 = 100_000;
const ROUNDS: usize = 51;

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
        assert_eq!(control.status().await.elements, u64::from(GRANTS) + 2);
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
