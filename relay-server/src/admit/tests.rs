use overlan_protocol::HostIndex;
use overlan_protocol::frame::Vni;
use overlan_protocol::key::IdentitySecret;
use overlan_protocol::ticket::KeyId;

use super::*;

const NOW: u64 = 1_800_000_000;
const EXPORTER: Exporter = [7; 32];
const RELAY: RelayId = RelayId([3; 16]);

fn host(number: u32) -> HostIndex {
    HostIndex::new(number).expect("a host")
}

struct Case {
    signer: IdentitySecret,
    key_id: KeyId,
    device: IdentitySecret,
    ticket: Ticket,
}

impl Case {
    fn new() -> Self {
        let device = IdentitySecret::from_seed([2; 32]);
        Self {
            signer: IdentitySecret::from_seed([1; 32]),
            key_id: KeyId("k1".to_owned()),
            ticket: Ticket {
                device: DeviceId([9; 16]),
                identity: device.public(),
                networks: vec![(Vni::new(0x1000).expect("usable"), host(5))],
                epoch: 3,
                not_before: UnixTime::from_secs(NOW - 10),
                expires: UnixTime::from_secs(NOW + 10),
            },
            device,
        }
    }

    fn orders(&self, revoked: &[u64]) -> Orders {
        RelayOrders {
            version: 1,
            lineage: None,
            holders: Vec::new(),
            ticket_keys: [(self.key_id.clone(), self.signer.public())].into(),
            revoked: revoked.iter().map(|it| (self.ticket.device, *it)).collect(),
            cas: Vec::new(),
        }
        .into()
    }

    fn body(&self, secret: &IdentitySecret, exporter: &Exporter, relay: RelayId) -> Vec<u8> {
        let text = self.ticket.sign(&self.key_id, &self.signer);
        Hello::sign(secret, exporter, relay, &text, 4).encode()
    }

    fn judge(&self, body: &[u8], wall: u64) -> Result<Admitted, RejectCode> {
        let at = UnixTime::from_secs(wall);
        admit(body, &EXPORTER, RELAY, &self.orders(&[]), at).map_err(|reject| reject.code)
    }
}

#[test]
fn an_address_that_the_controller_gave_to_another_is_no_part_of_the_ticket() {
    let mut case = Case::new();
    let vni = |number| overlan_protocol::frame::Vni::new(number).unwrap();
    case.ticket.networks = vec![(vni(0x1000), host(5)), (vni(0x2000), host(6))];
    let body = case.body(&case.device, &EXPORTER, RELAY);
    let (own, other) = (case.ticket.device, DeviceId([0xee; 16]));
    let judge = |holders: &[(u32, u32, DeviceId)]| {
        let mut orders = case.orders(&[]);
        orders.holders = holders
            .iter()
            .map(|(number, index, device)| (Place::new(vni(*number), host(*index)), *device))
            .collect();
        admit(&body, &EXPORTER, RELAY, &orders, UnixTime::from_secs(NOW))
            .map(|it| it.ticket.networks)
            .map_err(|reject| reject.code)
    };
    let (first, second) = ((vni(0x1000), host(5)), (vni(0x2000), host(6)));
    assert_eq!(judge(&[(0x1000, 5, own)]), Ok(vec![first, second]));
    assert_eq!(judge(&[(0x1000, 9, other)]), Ok(vec![first, second]));
    assert_eq!(judge(&[(0x1000, 5, other)]), Ok(vec![second]));
    assert_eq!(
        judge(&[(0x1000, 5, other), (0x2000, 6, other)]),
        Err(RejectCode::HeldByOthers)
    );
}

#[test]
fn a_good_hello_is_admitted_as_the_tickets_device() {
    let case = Case::new();
    let admitted = case.judge(&case.body(&case.device, &EXPORTER, RELAY), NOW);
    let expected = Admitted {
        ticket: case.ticket.clone(),
        sequence: 4,
        version: 1,
    };
    assert_eq!(admitted, Ok(expected));
}

#[test]
fn a_proof_counts_for_one_key_one_connection_and_one_relay() {
    let case = Case::new();
    let stranger = IdentitySecret::from_seed([8; 32]);
    for body in [
        case.body(&stranger, &EXPORTER, RELAY),
        case.body(&case.device, &[8; 32], RELAY),
        case.body(&case.device, &EXPORTER, RelayId([4; 16])),
    ] {
        assert_eq!(case.judge(&body, NOW), Err(RejectCode::ProofInvalid));
    }
}

#[test]
fn each_bad_ticket_has_its_code() {
    let mut case = Case::new();
    let good = case.body(&case.device, &EXPORTER, RELAY);
    assert_eq!(case.judge(&good, NOW + 10), Err(RejectCode::TicketExpired));
    assert_eq!(case.judge(&good, NOW - 11), Err(RejectCode::TicketInvalid));
    case.signer = IdentitySecret::from_seed([6; 32]);
    assert_eq!(case.judge(&good, NOW), Err(RejectCode::TicketInvalid));
    assert_eq!(case.judge(&good[..20], NOW), Err(RejectCode::Protocol));
    let mut future = good;
    (future[0], future[1]) = (9, 12);
    assert_eq!(case.judge(&future, NOW), Err(RejectCode::Version));
}

#[test]
fn a_revoked_epoch_is_refused_and_a_new_one_is_not() {
    let case = Case::new();
    let body = case.body(&case.device, &EXPORTER, RELAY);
    let judge = |revoked: &[u64]| {
        let verdict = admit(
            &body,
            &EXPORTER,
            RELAY,
            &case.orders(revoked),
            UnixTime::from_secs(NOW),
        );
        verdict.map_err(|reject| reject.code).map(|_| ())
    };
    assert_eq!(judge(&[3]), Ok(()));
    // The highest of several entries counts, in whatever order they come.
    assert_eq!(judge(&[4, 1]), Err(RejectCode::Revoked));
    assert_eq!(judge(&[1, 4]), Err(RejectCode::Revoked));
}
