//! What is not answered, or answered by no.

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, RecordType},
};

use crate::{
    client::{ask, ask_message, question, send_raw, with_edns},
    control::asker,
    net::{API, DNS, Namespace},
    process::Dns,
    upstream::Upstream,
};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_no_properly_or_nothing_and_goes_on() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let upstream = Upstream::dead(&net, [10, 0, 1, 1].into());
    let dns = Dns::start(&net, &dir, &[]);
    dns.control().await.snapshot(&[asker(API, "", &[("web", "247.0.0.1")])]).await;
    dns.until_logged("listening");
    let rcode = |message: &Message| ask_message(&net, API, message).metadata.response_code;

    for kind in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(rcode(&question("steppe.internal.", kind)), ResponseCode::Refused);
    }
    assert_eq!(rcode(&question("www.example.", RecordType::ANY)), ResponseCode::Refused);
    assert_eq!(ask(&net, API, "web.", RecordType::ANY), "NoError RFC8482 ");
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(rcode(&chaos), ResponseCode::Refused);
    let mut later = with_edns(question("web.", RecordType::A), 1_232);
    later.edns.as_mut().unwrap().set_version(1);
    let answer = ask_message(&net, API, &later);
    // BADVERS, which shares its number with BADSIG.
    assert_eq!((u16::from(answer.metadata.response_code), answer.answers.len()), (16, 0));

    let good = question("web.", RecordType::A).to_vec().unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        send_raw(&net, API, &packet)
    };
    let code = |answer: Option<Vec<u8>>| {
        answer.map(|answer| Message::from_vec(&answer).unwrap().metadata.response_code)
    };
    for opcode in [1, 2, 4, 5, 6, 15] {
        assert_eq!(code(changed(&|packet| packet[2] |= opcode << 3)), Some(ResponseCode::NotImp), "{opcode}");
    }
    for (at, byte) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 1), (12, 0xc0), (12, 63), (12, 64)] {
        assert_eq!(code(changed(&|packet| packet[at] = byte)), Some(ResponseCode::FormErr), "{at}");
    }
    let oversized = changed(&|packet| packet.resize(60_000, 0xff));
    assert_eq!(code(oversized), Some(ResponseCode::NoError));
    // Answers, and what is shorter than a head, are not answered: two of us would never come to an end.
    assert_eq!(changed(&|packet| packet[2] |= 0x80), None);
    assert_eq!(changed(&|packet| packet.truncate(11)), None);
    assert_eq!(changed(&|packet| packet.clear()), None);
    let response = Message::new(7, MessageType::Response, OpCode::Query).to_vec().unwrap();
    assert_eq!(send_raw(&net, API, &response), None);

    // A resolver of this host that has been told to ask us: it asks from our address.
    assert_eq!(ask(&net, DNS, "www.example.", RecordType::A), "Refused");
    assert_eq!(ask(&net, API, "web.", RecordType::A), "NoError 247.0.0.1");
    assert!(upstream.asked().is_empty());
}
