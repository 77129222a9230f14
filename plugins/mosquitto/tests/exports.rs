//! The library has what mosquitto looks for. How it behaves inside is tested in `tests/brokers.rs` of the workspace.

use std::path::PathBuf;

#[test]
fn the_broker_finds_the_functions_that_it_calls() {
    let program = std::env::current_exe().expect("a program");
    let library: PathBuf = program.with_file_name("libkeyward_mosquitto.so");
    let bytes = std::fs::read(&library).expect("cargo has built it beside this test");
    for name in [
        "mosquitto_plugin_version",
        "mosquitto_plugin_init",
        "mosquitto_plugin_cleanup",
    ] {
        let symbol = format!("\0{name}\0");
        let is_there = bytes
            .windows(symbol.len())
            .any(|window| window == symbol.as_bytes());
        assert!(is_there, "{name} is exported");
    }
}
