//! The definitions in `crds/` are what the types say.

use std::{env, fs, path::Path};

/// With `KEYWARD_WRITE_CRDS=1`, as `make crds` sets it, writes the files instead of comparing them.
#[test]
fn the_files_match_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let rendered = keyward::crds::yaml().expect("the definitions render");
    let write = env::var_os("KEYWARD_WRITE_CRDS").is_some();
    for (name, text) in &rendered {
        let file = folder.join(name);
        if write {
            fs::write(&file, text).expect("the file can be written");
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == *text,
            "crds/{name} is not what src/api says: run `make crds`"
        );
    }
    let files = fs::read_dir(&folder).expect("crds/ exists").count();
    assert_eq!(
        files,
        rendered.len(),
        "crds/ holds a file that nothing generates: remove it"
    );
}
