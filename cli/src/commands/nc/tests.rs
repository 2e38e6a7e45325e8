use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct NcLine {
    #[command(flatten)]
    nc: NcArgs,
}

fn parsed(words: &[&str]) -> Result<Carry, String> {
    let line = NcLine::try_parse_from([&["nc"], words].concat());
    let line = line.map_err(|error| error.to_string())?;
    carry(&line.nc).map_err(|error| error.to_string())
}

#[test]
fn a_host_and_a_port_are_a_connection() {
    let carry = parsed(&["web", "22"]).unwrap();
    let expected = Carry::Connect {
        transport: OverlayTransport::Tcp,
        peer: "web".to_owned(),
        port: 22,
    };
    assert_eq!(carry, expected);
    assert!(parsed(&["web"]).unwrap_err().contains("PORT"));
    assert!(parsed(&["web", "0"]).is_err());
    assert!(parsed(&["web", "65536"]).is_err());
}

#[test]
fn listening_takes_a_port_alone() {
    let expected = Carry::Accept {
        transport: OverlayTransport::Udp,
        port: 53,
    };
    assert_eq!(parsed(&["-l", "-u", "53"]).unwrap(), expected);
    assert!(parsed(&["-l", "web", "53"]).is_err());
    assert!(parsed(&["-l", "web"]).unwrap_err().contains("65535"));
    assert!(parsed(&["-l", "0"]).is_err());
}
