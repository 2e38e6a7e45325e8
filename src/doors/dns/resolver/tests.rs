use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::net::Ipv4Addr;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, Record};
use overlan_protocol::dns::Zone;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::Instant as RuntimeInstant;

use super::super::explain::Rule;
use super::*;
use crate::names::Delegation;
use crate::names::lookup::tests::{query, texts};
use crate::names::tests::{DEMO, netmap};

/// The behaviour of a resolver inside the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Cannot be dialled.
    Away,
    /// Says nothing.
    Silent,
    /// Says that it fails.
    Fails,
    /// Answers 10.1.0.N for every name.
    Answers(u8),
}

/// Resolvers by label, and the labels in the order in which they were dialled.
#[derive(Debug)]
struct Overlay {
    does: BTreeMap<&'static str, Does>,
    dialled: Mutex<Vec<String>>,
    zone: Resolvers,
    netmap: Netmap,
}

impl Overlay {
    fn new(does: &[(&'static str, Does)]) -> Self {
        let via: Vec<Via> = does
            .iter()
            .map(|(label, _)| label.parse().unwrap())
            .collect();
        let mut netmap = netmap();
        let dns = &mut netmap.networks.get_mut(&DEMO).unwrap().dns;
        let settings = Zone { via: via.clone() };
        dns.set_zone("corp.example", Some(&settings));
        Self {
            does: does.iter().copied().collect(),
            dialled: Mutex::default(),
            zone: Resolvers::Zone(Delegation {
                network: DEMO,
                zone: "corp.example".to_owned(),
                via,
            }),
            netmap,
        }
    }

    fn dial(&self, network: NetworkId, via: Via) -> Ready<Result<DuplexStream, DialError>> {
        assert_eq!(network, DEMO);
        let label = via.to_string();
        let label = label.strip_suffix(":53").unwrap();
        self.dialled.lock().push(label.to_owned());
        let does = self.does[label];
        if does == Does::Away {
            return ready(Err(DialError::Offline));
        }
        let (ours, mut theirs) = duplex(4_096);
        tokio::spawn(async move {
            let len = theirs.read_u16().await.unwrap();
            let mut asked = vec![0; usize::from(len)];
            theirs.read_exact(&mut asked).await.unwrap();
            let mut message = Message::from_vec(&asked).unwrap();
            message.metadata.message_type = MessageType::Response;
            match does {
                Does::Silent | Does::Away => std::future::pending().await,
                Does::Fails => message.metadata.response_code = ResponseCode::ServFail,
                Does::Answers(last) => add_address(&mut message, last),
            }
            let bytes = message.to_vec().unwrap();
            theirs.write_u16(bytes.len() as u16).await.unwrap();
            theirs.write_all(&bytes).await.unwrap();
        });
        ready(Ok(ours))
    }

    async fn addresses(&self, resolver: &Resolver, name: &str) -> Result<Vec<IpAddr>, NoAddress> {
        let dial = |network, via| self.dial(network, via);
        resolver
            .addresses(&self.zone, name, &self.netmap, dial)
            .await
    }

    fn dialled(&self) -> Vec<String> {
        std::mem::take(&mut *self.dialled.lock())
    }
}

fn add_address(message: &mut Message, last: u8) {
    let name = message.queries[0].name().clone();
    let address = RData::A(A::new(10, 1, 0, last));
    message.add_answer(Record::from_rdata(name, 60, address));
}

fn address(last: u8) -> Result<Vec<IpAddr>, NoAddress> {
    Ok(vec![Ipv4Addr::new(10, 1, 0, last).into()])
}

#[tokio::test(start_paused = true)]
async fn the_next_resolver_is_asked_when_one_does_not_answer_and_first_for_a_while() {
    for broken in [Does::Away, Does::Silent, Does::Fails] {
        let overlay = Overlay::new(&[("one", broken), ("two", Does::Answers(2))]);
        let resolver = Resolver::new(Vec::new());
        let begin = RuntimeInstant::now();
        let found = overlay.addresses(&resolver, "a.corp.example").await;
        assert_eq!(found, address(2), "{broken:?}");
        assert!(begin.elapsed() <= RESOLVER_TRY + Duration::from_millis(10));
        assert_eq!(overlay.dialled(), ["one", "two"]);
        let Resolvers::Zone(Delegation { via, .. }) = &overlay.zone else {
            panic!("it is a zone");
        };
        let last = |index: usize| resolver.last(&Server::Inside(DEMO, via[index].clone()));
        assert!(last(0).unwrap().is_err());
        assert_eq!(last(1), Some(Ok(())));

        // Known names cost nothing; others go past the one that failed, until that was long ago.
        let again = overlay.addresses(&resolver, "a.corp.example").await;
        assert_eq!((again, overlay.dialled()), (address(2), vec![]));
        overlay
            .addresses(&resolver, "b.corp.example")
            .await
            .unwrap();
        assert_eq!(overlay.dialled(), ["two"]);
        tokio::time::advance(FAILED_FOR).await;
        overlay
            .addresses(&resolver, "c.corp.example")
            .await
            .unwrap();
        assert_eq!(overlay.dialled(), ["one", "two"]);
    }
}

#[tokio::test(start_paused = true)]
async fn when_none_answers_it_is_said_in_time() {
    let overlay = Overlay::new(&[
        ("one", Does::Silent),
        ("two", Does::Away),
        ("three", Does::Silent),
    ]);
    let resolver = Resolver::new(Vec::new());
    let begin = RuntimeInstant::now();
    let found = overlay.addresses(&resolver, "a.corp.example").await;
    assert_eq!(found, Err(NoAddress::NobodyAnswers));
    assert!(begin.elapsed() <= RESOLVER_TRY * 2 + Duration::from_millis(10));
    let wanted = ExplainedQuestion::new("a.corp.example", "A").unwrap();
    let dial = |network, via| overlay.dial(network, via);
    let explained = resolver
        .explain(wanted, &overlay.netmap, dial)
        .await
        .unwrap();
    assert_eq!(explained.code, "SERVFAIL");
    assert_eq!(explained.errors.len(), 3, "{explained:?}");
    assert!(matches!(
        explained.rule,
        Rule::Resolvers { resolver: None, .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_person_hears_who_answered_and_whether_it_was_known() {
    let overlay = Overlay::new(&[("db", Does::Answers(1))]);
    let resolver = Resolver::new(Vec::new());
    for cached in [false, true] {
        let wanted = ExplainedQuestion::new("a.corp.example", "A").unwrap();
        let dial = |network, via| overlay.dial(network, via);
        let explained = resolver
            .explain(wanted, &overlay.netmap, dial)
            .await
            .unwrap();
        assert_eq!(explained.cached, cached);
        assert_eq!(explained.code, "NOERROR");
        let rule = Rule::Resolvers {
            zone: "corp.example".to_owned(),
            network: "demo".to_owned(),
            resolver: Some("db:53".to_owned()),
        };
        assert_eq!(explained.rule, rule);
    }
}

#[tokio::test(start_paused = true)]
async fn questions_that_wait_are_bounded() {
    let mut overlay = Overlay::new(&[("one", Does::Silent)]);
    overlay.does.insert("two", Does::Answers(2));
    let resolver = Resolver::new(Vec::new());
    let ask = async |number: usize| {
        let name = format!("n{number}.corp.example");
        overlay.addresses(&resolver, &name).await
    };
    let begin = RuntimeInstant::now();
    let waiting = futures_util::future::join_all((0..SHARE_MAX).map(ask));
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    assert_eq!(ask(SHARE_MAX).await, Err(NoAddress::NobodyAnswers));
    assert_eq!(begin.elapsed(), Duration::ZERO, "it did not wait");
    // A zone whose resolvers are dead takes no place of another one.
    let other = Resolvers::Zone(Delegation {
        network: DEMO,
        zone: "lab.example".to_owned(),
        via: vec!["two".parse().unwrap()],
    });
    let mut netmap = overlay.netmap.clone();
    let settings = Zone {
        via: vec!["two".parse().unwrap()],
    };
    let dns = &mut netmap.networks.get_mut(&DEMO).unwrap().dns;
    dns.set_zone("lab.example", Some(&settings));
    let dial = |network, via| overlay.dial(network, via);
    let answered = resolver
        .addresses(&other, "a.lab.example", &netmap, dial)
        .await;
    assert_eq!(answered, address(2));
    waiting.await;
    assert_eq!(overlay.dialled().len(), SHARE_MAX + 1);
    assert!(resolver.pending.lock().is_empty(), "all places are free");
}

#[test]
fn all_sources_together_are_bounded() {
    let pending = Mutex::default();
    let source = |number: usize| {
        Resolvers::Zone(Delegation {
            network: DEMO,
            zone: format!("z{number}.example"),
            via: Vec::new(),
        })
    };
    let sources: Vec<Resolvers> = (0..=PENDING_MAX).map(source).collect();
    let take = |source| PendingQuestion::take(&pending, source);
    let held: Vec<PendingQuestion<'_>> = sources.iter().filter_map(take).collect();
    assert_eq!(held.len(), PENDING_MAX);
    drop(held);
    assert!(take(&sources[PENDING_MAX]).is_some());
}

/// A resolver on a port of this host: it cuts TXT over UDP, and answers strangers' lies before its
/// own answer.
async fn outside() -> SocketAddr {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let text = "x".repeat(200);
    tokio::spawn(async move {
        let mut bytes = vec![0; 2_000];
        loop {
            let (len, client) = udp.recv_from(&mut bytes).await.unwrap();
            let mut message = Message::from_vec(&bytes[..len]).unwrap();
            message.metadata.message_type = MessageType::Response;
            let mut lie = message.clone();
            lie.metadata.id ^= 1;
            add_address(&mut lie, 66);
            udp.send_to(&lie.to_vec().unwrap(), client).await.unwrap();
            if message.queries[0].query_type() == RecordType::TXT {
                message.metadata.truncation = true;
            } else {
                add_address(&mut message, 1);
            }
            udp.send_to(&message.to_vec().unwrap(), client)
                .await
                .unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let len = stream.read_u16().await.unwrap();
            let mut asked = vec![0; usize::from(len)];
            stream.read_exact(&mut asked).await.unwrap();
            let mut message = Message::from_vec(&asked).unwrap();
            message.metadata.message_type = MessageType::Response;
            let name = message.queries[0].name().clone();
            for _ in 0..20 {
                let data = RData::TXT(TXT::new(vec![text.clone()]));
                message.add_answer(Record::from_rdata(name.clone(), 60, data));
            }
            let bytes = message.to_vec().unwrap();
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn foreign_names_are_asked_over_udp_and_whole_over_tcp() {
    let resolver = Resolver::new(vec![outside().await]);
    let netmap = netmap();
    let dial = |_, _| async { Err::<DuplexStream, _>(DialError::Offline) };
    let ask = async |name: &str, kind, transport| {
        let bytes = query(name, kind).to_vec().unwrap();
        let reply = resolver
            .answer(&bytes, &netmap, transport, dial)
            .await
            .unwrap();
        Message::from_vec(&reply).unwrap()
    };
    let reply = ask("www.example.org.", RecordType::A, DnsTransport::Udp).await;
    assert_eq!(texts(&reply.answers), ["10.1.0.1"]);
    assert!(reply.metadata.recursion_available);
    let cut = ask("www.example.org.", RecordType::TXT, DnsTransport::Udp).await;
    assert!(cut.metadata.truncation && cut.answers.len() < 5, "{cut}");
    let whole = ask("www.example.org.", RecordType::TXT, DnsTransport::Tcp).await;
    assert_eq!(whole.answers.len(), 20);
    // Our names stay here, whichever resolvers there are.
    let own = ask("no.demo.overlan.lan.", RecordType::A, DnsTransport::Udp).await;
    assert_eq!(own.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_resolver_that_is_not_there_fails_at_once() {
    let closed = {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        udp.local_addr().unwrap()
    };
    let resolver = Resolver::new(vec![closed]);
    let dial = |_, _| async { Err::<DuplexStream, _>(DialError::Offline) };
    let bytes = query("www.example.org.", RecordType::A).to_vec().unwrap();
    let netmap = netmap();
    let asked = resolver.answer(&bytes, &netmap, DnsTransport::Udp, dial);
    let reply = asked.await.unwrap();
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let last = resolver.last(&Server::Outside(closed)).unwrap();
    assert!(last.unwrap_err().contains("refused"));
}
