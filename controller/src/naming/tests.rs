use super::*;

fn taken(labels: &[&str]) -> BTreeSet<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

fn give(label: &str) -> Naming {
    Naming::Give(label.to_owned())
}

#[test]
fn a_free_label_is_given_under_every_policy() {
    for policy in [
        NamePolicy::Suffix,
        NamePolicy::TakeOverOffline,
        NamePolicy::Fail,
    ] {
        let naming = decide("web", policy, LabelHolder::Nobody, &taken(&["web-1"]));
        assert_eq!(naming, give("web"));
    }
}

#[test]
fn the_lowest_free_number_is_put_behind() {
    let taken = taken(&["web", "web-1", "web-3"]);
    let naming = decide("web", NamePolicy::Suffix, LabelHolder::Other, &taken);
    assert_eq!(naming, give("web-2"));
}

#[test]
fn only_an_offline_device_of_the_same_key_is_taken_over() {
    let taken = taken(&["web"]);
    let policy = NamePolicy::TakeOverOffline;
    let offline = decide("web", policy, LabelHolder::Replaceable, &taken);
    assert_eq!(offline, Naming::TakeOver);
    let online = decide("web", policy, LabelHolder::Other, &taken);
    assert_eq!(online, give("web-1"));
}

#[test]
fn fail_refuses_whoever_holds_the_label() {
    let taken = taken(&["web"]);
    for holder in [LabelHolder::Other, LabelHolder::Replaceable] {
        let naming = decide("web", NamePolicy::Fail, holder, &taken);
        assert_eq!(naming, Naming::Refuse);
    }
}
