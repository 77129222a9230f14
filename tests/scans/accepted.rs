//! What is found, held against what is accepted.

use serde::Deserialize;

/// Something that a scanner has found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The scanner, its check, and what it says.
    pub what: String,
    /// The file in which it was found.
    pub file: String,
    /// The name of the object there; of a Dockerfile, the file again.
    pub object: String,
}

/// Findings that are left as they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    found: Vec<String>,
    #[serde(default)]
    on: Vec<String>,
    #[serde(default, rename = "in")]
    files: Vec<String>,
    because: String,
}

impl Accepted {
    fn holds(&self, finding: &Finding) -> bool {
        let allows = |names: &[String], name| names.is_empty() || names.contains(name);
        self.found.contains(&finding.what)
            && allows(&self.on, &finding.object)
            && allows(&self.files, &finding.file)
    }

    /// What it names that nothing is found of.
    fn idle(&self, findings: &[Finding]) -> Vec<String> {
        let held: Vec<_> = findings.iter().filter(|it| self.holds(it)).collect();
        let is_idle = |name: &str| {
            held.iter()
                .all(|it| it.what != name && it.object != name && it.file != name)
        };
        let named = [&self.found, &self.on, &self.files].into_iter().flatten();
        named.filter(|name| is_idle(name)).cloned().collect()
    }
}

/// What is wrong: findings that are not accepted, and accepted ones that are not found.
pub fn wrong(findings: &[Finding], accepted: &[Accepted]) -> Vec<String> {
    let is_new = |finding: &&Finding| !accepted.iter().any(|it| it.holds(finding));
    let new = findings.iter().filter(is_new);
    let new = new.map(|it| format!("{}: {}: {}", it.file, it.object, it.what));
    let idle = accepted.iter().flat_map(|it| {
        let names = it.idle(findings).into_iter();
        names.map(|name| format!("accepted, but no longer found: {name} ({})", it.because))
    });
    new.chain(idle).collect()
}
