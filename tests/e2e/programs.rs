//! Real programs through the overlay, each as its user calls it: curl, and with the programs of the
//! modules below, ssh, scp, git and dig.

use std::fs;

use crate::lab::{DOMAIN, Lab};
use crate::process::installed;
use crate::service::Service;

mod dig;

pub(crate) mod ssh;

#[test]
fn curl_fetches_pages_and_posts_by_name_and_by_address() {
    if !installed(&["curl"]) {
        return;
    }
    let web_name = format!("web.home.{DOMAIN}");
    let plain = Service::http("a page of web\n");
    let (tls, certificate) = Service::https("a page over TLS\n", &web_name);
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, plain.address());
    web.serve(443, tls.address());

    for host in [web_name.as_str(), "WEB.Home.Overlan.LAN", &web.address] {
        let page = laptop.curl(&[&format!("http://{host}/")]).ok();
        assert_eq!(page, "a page of web", "{host}");
    }
    let v6 = web.run(&["ip", "-6"]).ok();
    assert_eq!(
        laptop.curl(&[&format!("http://[{v6}]/")]).ok(),
        "a page of web"
    );

    let trusted = lab.path("web.pem");
    fs::write(&trusted, certificate).unwrap();
    let url = format!("https://{web_name}/");
    let page = laptop
        .curl(&["--cacert", trusted.to_str().unwrap(), &url])
        .ok();
    assert_eq!(page, "a page over TLS");
    // Without the certificate curl must see a stranger: what it saw above was its own end to end.
    assert_eq!(laptop.curl(&[&url]).code, Some(60), "certificate problem");

    let (posted, echoed) = (lab.path("posted"), lab.path("echoed"));
    fs::write(&posted, noise(4 << 20)).unwrap();
    let data = format!("@{}", posted.display());
    let out = echoed.to_str().unwrap();
    laptop
        .curl(&[
            "--data-binary",
            &data,
            "-o",
            out,
            &format!("http://{web_name}/"),
        ])
        .ok();
    assert!(
        fs::read(&echoed).unwrap() == fs::read(&posted).unwrap(),
        "4 MiB there and back"
    );
}

#[test]
fn curl_hears_why_there_is_no_connection() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, mut web) = lab.pair();
    // A port that is served while no program listens at its target.
    let nobody = {
        let gone = Service::http("");
        gone.address()
    };
    web.serve(81, nobody);

    let refused = |host: &str, reply: u8| {
        let outcome = laptop.curl(&[&format!("http://{host}/")]);
        let text = format!("({reply})");
        assert_eq!(outcome.code, Some(97), "{outcome:#?}");
        assert!(outcome.stderr.contains(&text), "not {text}: {outcome:#?}");
    };
    refused(&format!("web.home.{DOMAIN}"), 5);
    refused(&format!("web.home.{DOMAIN}:81"), 5);
    refused(&format!("nobody.home.{DOMAIN}"), 4);
    refused(&format!("web.elsewhere.{DOMAIN}"), 4);
    refused("100.64.200.200", 4);
    refused("example.com", 2);
    refused("127.0.0.1", 2);

    assert!(web.program.stop().success());
    laptop.sees(&web, false);
    refused(&format!("web.home.{DOMAIN}"), 4);
}

/// `len` bytes that no compression makes shorter, the same at every run.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(len)
        .collect()
}
