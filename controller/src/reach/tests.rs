use super::*;

fn public(text: Option<&str>) -> Result<(String, u16), StartError> {
    let server = public_address(text, "0.0.0.0:8443".parse().unwrap())?;
    Ok((server.host().to_owned(), server.port()))
}

#[test]
fn the_public_address_is_where_it_listens_unless_told() {
    assert_eq!(public(None).unwrap(), ("127.0.0.1".to_owned(), 8443));
    let answer = public(Some("controller.example:443")).unwrap();
    assert_eq!(answer, ("controller.example".to_owned(), 443));
    let without_port = public(Some("controller.example")).unwrap();
    assert_eq!(without_port, ("controller.example".to_owned(), 8443));
    let v6 = public(Some("[2001:db8::1]")).unwrap();
    assert_eq!(v6, ("2001:db8::1".to_owned(), 8443));
}

#[test]
fn what_is_no_address_is_refused() {
    for text in [
        "",
        ":443",
        "a b",
        "host:0",
        "host:99999",
        "host/path",
        "host#x",
        "Host",
    ] {
        assert!(public(Some(text)).is_err(), "{text:?}");
    }
}

#[test]
fn certificate_names_do_not_depend_on_the_order_of_configuration() {
    let one = ["a.example".to_owned(), "b.example".to_owned()];
    let two = ["b.example".to_owned(), "a.example".to_owned()];
    let listen = "127.0.0.1".parse().unwrap();
    assert_eq!(
        certificate_names("c.example", listen, &one),
        certificate_names("c.example", listen, &two)
    );
}
