use super::*;

#[test]
fn a_dash_is_standard_input_and_anything_else_a_path() {
    assert_eq!("-".parse(), Ok(SecretSource::Stdin));
    assert_eq!("./-".parse(), Ok(SecretSource::File("./-".into())));
}

#[test]
fn two_secrets_come_by_two_lines() {
    let mut input = io::Cursor::new("ovx_token\r\nmy long password\n");
    let token = read_line(&mut input, "setup token").unwrap();
    let password = read_line(&mut input, "password").unwrap();
    assert_eq!(token.reveal(), "ovx_token");
    assert_eq!(password.reveal(), "my long password");
    let error = read_line(&mut input, "third").unwrap_err();
    assert_eq!(error.to_string(), "the third is empty");
    assert_eq!(error.code(), Code::Usage);
}

#[test]
fn a_file_is_named_when_it_cannot_be_read_and_its_line_break_is_no_part_of_the_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let error = read_file(&path, "auth key").unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    std::fs::write(&path, "ovk_1_abc\n").unwrap();
    assert_eq!(read_file(&path, "auth key").unwrap().reveal(), "ovk_1_abc");
}
