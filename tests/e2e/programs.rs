//! Real programs through the overlay: curl, ssh, scp, git and dig, each as its user calls it.

use crate::lab::Lab;

#[test]
fn smoke() {
    let lab = Lab::start();
    let web = lab.up("web");
    let laptop = lab.up("laptop");
    laptop.sees(&web, true);
    println!("{:#}", laptop.status());
}
