//! Projects in the shapes that other people's have, built with the real Docker Engine: what an installation gives,
//! the image has.

mod described;
mod engines;
mod image;
mod installed;
mod leftovers;
mod locks;
mod old_images;
mod random;
mod remapped;
mod server;
mod sources;

use crate::building::{docker, said};

/// What the image's dependencies are: an image of the same stands on the same.
pub fn stands_on(tag: &str) -> String {
    let digest = said(&docker(&["image", "inspect", "-f", "{{index .Config.Labels \"rapidclaw.stands-on\"}}", tag]));
    assert!(digest.starts_with("sha256:"), "{tag} stands on {digest:?}");
    digest
}

/// What a program in the image prints, in a folder that is nobody's.
fn runs(tag: &str, arguments: &[&str]) -> String {
    said(&docker(&[&["run", "--rm", "--network", "none", "-w", "/", tag], arguments].concat()))
}
