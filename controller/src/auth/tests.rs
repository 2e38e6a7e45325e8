use super::*;

#[test]
fn a_named_secret_is_recognised_by_its_text() {
    let (named, text) = NamedSecret::generate(AUTH_KEY_PREFIX);
    let again = NamedSecret::parse(AUTH_KEY_PREFIX, &text).unwrap();
    assert_eq!((again.id, again.digest), (named.id, named.digest));
    assert!(NamedSecret::parse(RELAY_TOKEN_PREFIX, &text).is_none());
}

#[test]
fn a_secret_of_another_form_is_none() {
    for text in [
        "",
        "ovk_",
        "ovk_abc",
        "ovk_abc_secret",
        "ovk_00112233445g_secret",
    ] {
        let named = NamedSecret::parse(AUTH_KEY_PREFIX, &Secret::new(text));
        assert!(named.is_none(), "{text:?}");
    }
}

#[test]
fn secrets_are_long_and_never_repeat() {
    let (one, two) = (new_secret(SESSION_PREFIX), new_secret(SESSION_PREFIX));
    assert_ne!(one, two);
    assert_eq!(one.reveal().len(), SESSION_PREFIX.len() + 43);
}
