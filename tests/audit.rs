//! Each part of Keyward has exactly the rights that it uses.
//!
//! `tests/run` runs this after all other tests, alone, and names the audit log of the API server that
//! they used in `KEYWARD_AUDIT_LOG`.

mod support;

use std::{
    collections::BTreeSet,
    env,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde_json::Value;
use support::manifests::objects;

#[test]
#[ignore = "it looks at a whole run of the tests: tests/run runs it last"]
fn the_rights_that_are_granted_are_those_that_are_used() {
    let log = env::var_os("KEYWARD_AUDIT_LOG");
    let log = log.expect("KEYWARD_AUDIT_LOG names the audit log of the run: use `make test`");
    let accounts = service_accounts();
    assert!(!accounts.is_empty(), "deploy/install.yaml has accounts");
    for account in accounts {
        let granted = granted(&account);
        let used = used(Path::new(&log), &account.user());
        let missing: Vec<_> = used.difference(&granted).collect();
        let idle: Vec<_> = granted.difference(&used).collect();
        assert!(
            missing.is_empty() && idle.is_empty(),
            "{}: used without a right: {missing:?}; granted and never used: {idle:?}",
            account.user()
        );
    }
}

struct Account {
    namespace: String,
    name: String,
}

impl Account {
    fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    fn is(&self, subject: &Value) -> bool {
        subject["kind"] == "ServiceAccount"
            && subject["namespace"] == *self.namespace
            && subject["name"] == *self.name
    }
}

fn service_accounts() -> Vec<Account> {
    let installed = objects("deploy/install.yaml");
    let accounts = installed.iter().filter(|o| o["kind"] == "ServiceAccount");
    accounts
        .map(|o| Account {
            namespace: text(&o["metadata"]["namespace"]),
            name: text(&o["metadata"]["name"]),
        })
        .collect()
}

/// As `verb resource.group/subresource`, wherever they are granted.
fn granted(account: &Account) -> BTreeSet<String> {
    let mut manifests = objects("deploy/install.yaml");
    manifests.extend(objects("deploy/namespace.yaml"));
    let roles = manifests
        .iter()
        .filter(|o| text(&o["kind"]).ends_with("RoleBinding"))
        .filter(|o| items(&o["subjects"]).any(|subject| account.is(subject)))
        .map(|binding| {
            let role = &binding["roleRef"];
            let is_it =
                |o: &&Value| o["kind"] == role["kind"] && o["metadata"]["name"] == role["name"];
            let found = manifests.iter().find(is_it);
            found.unwrap_or_else(|| panic!("{role} is in the manifests"))
        });
    let mut rights = BTreeSet::new();
    for rule in roles.flat_map(|role| items(&role["rules"])) {
        for group in items(&rule["apiGroups"]) {
            for resource in items(&rule["resources"]) {
                for verb in items(&rule["verbs"]) {
                    rights.insert(right(verb, group, resource, &Value::Null));
                }
            }
        }
    }
    rights
}

/// What the audit log shows for a user, refused requests included. Tests that act as this user to
/// see what it may do are no use of a right: only Keyward's own client counts, which gives its name.
fn used(log: &Path, user: &str) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    let lines = BufReader::new(File::open(log).expect("the audit log opens")).lines();
    for line in lines.map(|line| line.expect("the audit log is text")) {
        if !line.contains(user) {
            continue;
        }
        let event: Value = serde_json::from_str(&line).expect("an event a line");
        let object = &event["objectRef"];
        let by_keyward = text(&event["userAgent"]).starts_with("keyward/");
        if by_keyward && event["user"]["username"] == *user && object["resource"].is_string() {
            rights.insert(right(
                &event["verb"],
                &object["apiGroup"],
                &object["resource"],
                &object["subresource"],
            ));
        }
    }
    rights
}

fn right(verb: &Value, group: &Value, resource: &Value, subresource: &Value) -> String {
    let (resource, inline) = match text(resource).split_once('/') {
        Some((resource, subresource)) => (resource.to_owned(), subresource.to_owned()),
        None => (text(resource), text(subresource)),
    };
    let group = Some(text(group)).filter(|group| !group.is_empty());
    let group = group.map_or(String::new(), |group| format!(".{group}"));
    let below = Some(inline).filter(|inline| !inline.is_empty());
    let below = below.map_or(String::new(), |below| format!("/{below}"));
    format!("{} {resource}{group}{below}", text(verb))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
