//! What is in the images, by the tar files that builders write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

mod support;

use support::process::Folder;

const NAMES: [&str; 2] = ["keyward", "keyward-mosquitto"];

#[test]
#[ignore = "takes a node"]
fn the_image_is_one_static_program_and_says_what_it_is() {
    let image = Image::open(&images(), "keyward");
    assert_eq!(image.config["User"], "65532:65532");
    assert_eq!(image.config["Entrypoint"], json!(["/keyward"]));
    let licenses = format!("{} AND LGPL-2.1-or-later", env!("CARGO_PKG_LICENSE"));
    assert_eq!(image.label("licenses"), licenses);
    assert_eq!(image.label("version"), env!("CARGO_PKG_VERSION"));
    let files = ["LICENSE", "keyward", "keyward.cdx.json"];
    assert_eq!(image.files(), BTreeSet::from(files.map(str::to_owned)));
    let program = image.unpacked("keyward");
    let headers = said(
        Command::new("readelf")
            .args(["--program-headers", "--dynamic"])
            .arg(program),
    );
    for part in ["INTERP", "(NEEDED)"] {
        assert!(
            !headers.contains(part),
            "it is linked statically: {headers}"
        );
    }
}

#[test]
#[ignore = "takes a node"]
fn the_image_of_mosquitto_has_the_broker_and_the_plugin_and_no_shell() {
    let image = Image::open(&images(), "keyward-mosquitto");
    assert_eq!(image.config["User"], "65532:65532");
    assert_eq!(image.label("version"), env!("CARGO_PKG_VERSION"));
    let files = image.files();
    for file in [
        "usr/sbin/mosquitto",
        "usr/lib/keyward/libkeyward_mosquitto.so",
        "usr/share/doc/mosquitto/copyright",
        "usr/share/doc/keyward/keyward.cdx.json",
    ] {
        assert!(files.contains(file), "{file}: {files:?}");
    }
    let is_program = |file: &&String| file.split('/').any(|part| ["bin", "sbin"].contains(&part));
    let programs = files.iter().filter(is_program);
    assert_eq!(Vec::from_iter(programs), ["usr/sbin/mosquitto"]);
}

#[test]
#[ignore = "takes a node"]
fn the_same_sources_give_the_same_images() {
    let folder = Folder::new("image");
    let mut build = Command::new("deploy/image/build");
    build
        .arg("--unoptimised")
        .arg(folder.path())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo says of this package would have build scripts run again, here and for the next who builds.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&*name);
        }
    }
    assert!(build.status().expect("it starts").success());
    for name in NAMES {
        let [first, second] = [&images(), folder.path()].map(|folder| {
            let digest = std::fs::read_to_string(folder.join(format!("{name}.digest")));
            digest.expect("a digest")
        });
        assert!(first.starts_with("sha256:"), "{first}");
        assert_eq!(first, second, "{name}");
    }
}

fn images() -> PathBuf {
    let folder = std::env::var_os("KEYWARD_IMAGES").map(PathBuf::from);
    folder.expect("KEYWARD_IMAGES names the folder of images: run `make test`")
}

/// An image as `docker save` writes it, unpacked.
struct Image {
    folder: Folder,
    config: Value,
    layers: Vec<PathBuf>,
}

impl Image {
    fn open(images: &Path, name: &str) -> Image {
        let folder = Folder::new("image");
        let tar = images.join(format!("{name}.tar"));
        said(
            Command::new("tar")
                .arg("-xf")
                .arg(tar)
                .arg("-C")
                .arg(folder.path()),
        );
        let read = |name: &str| -> Value {
            let text = std::fs::read_to_string(folder.path().join(name));
            serde_json::from_str(&text.expect("a file")).expect("JSON")
        };
        let manifest = &read("manifest.json")[0];
        let layers = manifest["Layers"].as_array().expect("layers").iter();
        let layers = layers.map(|layer| folder.path().join(layer.as_str().expect("a path")));
        Image {
            config: read(manifest["Config"].as_str().expect("a path"))["config"].take(),
            layers: layers.collect(),
            folder,
        }
    }

    fn label(&self, name: &str) -> &str {
        let labels: BTreeMap<_, _> = self.config["Labels"]
            .as_object()
            .expect("labels")
            .iter()
            .collect();
        let label = labels[&format!("org.opencontainers.image.{name}")];
        label.as_str().expect("a text")
    }

    /// All that are no folders.
    fn files(&self) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for layer in &self.layers {
            let listed = said(Command::new("tar").arg("-tf").arg(layer));
            let names = listed.lines().filter(|name| !name.ends_with('/'));
            files.extend(names.map(|name| name.trim_start_matches("./").to_owned()));
        }
        files
    }

    fn unpacked(&self, file: &str) -> PathBuf {
        for layer in &self.layers {
            said(
                Command::new("tar")
                    .arg("-xf")
                    .arg(layer)
                    .arg("-C")
                    .arg(self.folder.path()),
            );
        }
        self.folder.path().join(file)
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
