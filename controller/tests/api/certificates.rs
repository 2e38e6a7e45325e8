use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use overlan_protocol::api::{
    CertificateRequest, CertificateResponse, NameKey, NamesCaResponse, ProblemKind,
    name_key_message, path,
};
use overlan_protocol::key::{DeviceId, encode_signature};
use overlan_transport::https::HttpsError;

use crate::lab::{Device, Lab, WITHIN, refused};

fn request(device: DeviceId) -> CertificateRequest {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = NameKey(pair.public_key().as_ref().try_into().unwrap());
    let message = name_key_message(device, &key);
    let signature = pair.sign(&SystemRandom::new(), &message).unwrap();
    CertificateRequest {
        key,
        proof: encode_signature(&signature.as_ref().try_into().unwrap()),
    }
}

async fn ask(
    lab: &Lab,
    device: &Device,
    request: &CertificateRequest,
) -> Result<CertificateResponse, HttpsError> {
    let mut connection = device.connect(lab).await;
    connection
        .post(path::DEVICE_CERTIFICATES, request, WITHIN)
        .await
}

#[tokio::test]
async fn a_device_gets_certificates_for_its_own_names_and_for_no_other() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let twin = lab.enrol(&key, "web").await;
    for (device, name) in [
        (&web, "web.demo.overlan.lan"),
        (&twin, "web-1.demo.overlan.lan"),
    ] {
        let issued = ask(&lab, device, &request(device.id())).await.unwrap();
        let names: Vec<&str> = issued.certificates.iter().map(|it| &*it.name).collect();
        assert_eq!(names, [name]);
    }
    // Somebody else's request, or one with a wish in it, gets nothing.
    let replayed = ask(&lab, &twin, &request(web.id())).await;
    assert_eq!(refused(replayed), ProblemKind::BadRequest);
    let mut wish = serde_json::to_value(request(twin.id())).unwrap();
    wish["names"] = serde_json::json!(["web.demo.overlan.lan"]);
    let mut connection = twin.connect(&lab).await;
    let wished = connection
        .post::<_, CertificateResponse>(path::DEVICE_CERTIFICATES, &wish, WITHIN)
        .await;
    assert_eq!(refused(wished), ProblemKind::BadRequest);
    let nobody = lab
        .connect()
        .await
        .post::<_, CertificateResponse>(path::DEVICE_CERTIFICATES, &request(web.id()), WITHIN)
        .await;
    assert_eq!(refused(nobody), ProblemKind::NotAuthenticated);

    // Anybody may have the CA, which outlives a restart, as its certificates must.
    let answer = async |lab: &Lab| -> NamesCaResponse {
        let mut connection = lab.connect().await;
        connection.get(path::NAMES_CA, WITHIN).await.unwrap()
    };
    let before = answer(&lab).await;
    assert!(
        before
            .certificate
            .starts_with("-----BEGIN CERTIFICATE-----\n")
    );
    assert_eq!(before.domain, "overlan.lan");
    lab.restart().await;
    assert_eq!(answer(&lab).await, before);
}

#[tokio::test]
async fn a_device_that_asks_without_end_is_slowed_down_and_no_other() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let (looping, web) = (lab.enrol(&key, "loop").await, lab.enrol(&key, "web").await);
    let wanted = request(looping.id());
    let mut issued = 0;
    let answer = loop {
        match ask(&lab, &looping, &wanted).await {
            Ok(_) => issued += 1,
            answer @ Err(_) => break answer,
        }
        assert!(issued < 100, "no end of certificates");
    };
    assert!(issued >= 20, "{issued}");
    assert_eq!(refused(answer), ProblemKind::TooMany);
    ask(&lab, &web, &request(web.id())).await.unwrap();
}
