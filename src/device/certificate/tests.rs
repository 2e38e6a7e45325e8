use super::*;

use overlan_protocol::UnixTime;
use overlan_protocol::api::NameCertificate;
use rcgen::{CertificateParams, KeyPair as RcgenKeyPair, PublicKeyData, SignatureAlgorithm};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const DEVICE: DeviceId = DeviceId([7; 16]);

struct Point(NameKey);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A controller that answers with certificates over `key` for 14 days.
fn answer(now: UnixTime, names: &Names, key: NameKey) -> CertificateResponse {
    let ca = RcgenKeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let params = CertificateParams::default();
    let own = params.self_signed(&ca).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &ca);
    let certificate = |(network, name): (&NetworkId, &String)| NameCertificate {
        network: *network,
        name: name.clone(),
        certificate: BASE64.encode(
            CertificateParams::new([name.clone()])
                .unwrap()
                .signed_by(&Point(key), &issuer)
                .unwrap()
                .der(),
        ),
    };
    CertificateResponse {
        certificates: names.iter().map(certificate).collect(),
        ca: BASE64.encode(own.der()),
        expires: now + 14 * DAY,
    }
}

fn names(list: &[(u8, &str)]) -> Names {
    let name = |(id, name): &(u8, &str)| (NetworkId([*id; 16]), (*name).to_owned());
    list.iter().map(name).collect()
}

fn held(now: UnixTime, names: &Names) -> Held {
    let asking = Asking::new(DEVICE).unwrap();
    assert!(asking.request().is_proved_by(DEVICE));
    let answer = answer(now, names, asking.request().key);
    asking.answered(now, names.clone(), answer).unwrap()
}

#[test]
fn certificates_are_renewed_in_good_time_and_at_once_when_the_names_change() {
    let home = names(&[(1, "web.home.overlan.lan")]);
    assert_eq!(due(NOW, None, &Names::new()), Due::Never);
    assert_eq!(due(NOW, None, &home), Due::Now);
    let mut have = held(NOW, &home);
    for round in 0..5_u32 {
        // A controller that is away does not change when; it is asked until it answers, and the old
        // ones serve meanwhile.
        let asked = NOW + round * (10 * DAY);
        let at = asked + 14 * DAY / 3 * 2;
        assert_eq!(due(asked, Some(&have), &home), Due::At(at));
        assert_eq!(
            due(at - Duration::from_secs(1), Some(&have), &home),
            Due::At(at)
        );
        assert_eq!(due(at, Some(&have), &home), Due::Now);
        assert_eq!(due(asked + 20 * DAY, Some(&have), &home), Due::Now);
        assert!(
            have.expires() > at + 4 * DAY,
            "time for a controller that is away"
        );
        have = held(asked + 10 * DAY, &home);
    }
    let renamed = names(&[(1, "www.home.overlan.lan")]);
    let joined = names(&[(1, "web.home.overlan.lan"), (2, "web.acme.overlan.lan")]);
    for other in [&renamed, &joined] {
        assert_eq!(due(NOW, Some(&have), other), Due::Now);
    }
    assert_eq!(held(NOW, &joined).keys().unwrap().len(), 2);
}

#[test]
fn a_controller_that_answers_for_other_names_is_not_asked_without_end() {
    let home = names(&[(1, "web.home.overlan.lan")]);
    let asking = Asking::new(DEVICE).unwrap();
    let behind = answer(
        NOW,
        &names(&[(1, "old.home.overlan.lan")]),
        asking.request().key,
    );
    let have = asking.answered(NOW, home.clone(), behind).unwrap();
    assert!(matches!(due(NOW, Some(&have), &home), Due::At(_)));

    // Nor is one whose clock is a month behind.
    let asking = Asking::new(DEVICE).unwrap();
    let ended = answer(NOW - 30 * DAY, &home, asking.request().key);
    let have = asking.answered(NOW, home.clone(), ended).unwrap();
    assert_eq!(due(NOW, Some(&have), &home), Due::At(NOW + RENEW_AFTER_MIN));
}

#[test]
fn certificates_come_back_from_the_state_and_an_answer_of_no_use_is_none() {
    let home = names(&[(1, "web.home.overlan.lan")]);
    let have = held(NOW, &home);
    let text = serde_json::to_string(&have).unwrap();
    let back: Held = serde_json::from_str(&text).unwrap();
    assert_eq!(due(NOW, Some(&back), &home), due(NOW, Some(&have), &home));
    let show = |held: &Held| held.keys().unwrap()[&NetworkId([1; 16])].cert.clone();
    assert_eq!(show(&back), show(&have));
    assert!(!format!("{have:?}").contains(have.key.reveal()));

    // Over another key, and no certificate at all.
    let asking = Asking::new(DEVICE).unwrap();
    let foreign = Asking::new(DEVICE).unwrap();
    let wrong = answer(NOW, &home, foreign.request().key);
    assert!(asking.answered(NOW, home.clone(), wrong.clone()).is_none());
    let mut garbage = wrong;
    garbage.certificates[0].certificate = "AAAA".to_owned();
    assert!(foreign.answered(NOW, home, garbage).is_none());
}
