//! How the plugin is linked.

fn main() {
    // The broker closes the library at its end. Code that a thread of ours may still run has to stay where it is.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
