use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct RelayLine {
    #[command(flatten)]
    serve: RelayServeArgs,
}

fn args(line: &[&str]) -> RelayServeArgs {
    let base = [
        "relay",
        "--server",
        "https://c.example:8443",
        "--state-dir",
        "/nowhere",
    ];
    RelayLine::try_parse_from(base.iter().chain(line))
        .unwrap()
        .serve
}

#[test]
fn addresses_can_be_given_several_times() {
    let line = [
        "--address",
        "a.example:443",
        "--address",
        "b.example:443,c.example:443",
    ];
    let config = config(args(&line)).unwrap();
    assert_eq!(config.addresses.len(), 3);
    assert_eq!(config.listen.to_string(), "0.0.0.0:443");
    assert!(config.token.is_none());
}

#[test]
fn metrics_stay_on_this_host() {
    config(args(&["--metrics", "127.0.0.1:9090"])).unwrap();
    let failure = config(args(&["--metrics", "0.0.0.0:9090"])).unwrap_err();
    assert_eq!(failure.code(), Code::Usage);
}

#[test]
fn a_relay_without_a_token_is_told_how_to_get_one() {
    let failure = Failure::from(StartError::NeedsToken);
    assert_eq!(failure.code(), Code::NeedsLogin);
    assert!(failure.to_string().contains("admin relay-token create"));
}
