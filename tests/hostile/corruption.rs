//! Every way to spoil one field of a JSON document.

use serde_json::{Value, json};

/// One field, and what it becomes.
#[derive(Clone, Debug)]
pub struct Corruption {
    /// As a JSON pointer.
    pub path: String,
    /// What is done to it.
    pub how: String,
    /// None: it is removed.
    value: Option<Value>,
}

impl Corruption {
    /// The document with its field spoilt.
    pub fn of(&self, document: &Value) -> Value {
        let mut spoilt = document.clone();
        let (parent, field) = self.path.rsplit_once('/').expect("a pointer");
        match (spoilt.pointer_mut(parent), &self.value) {
            (Some(Value::Object(fields)), Some(value)) => {
                fields.insert(unescaped(field), value.clone());
            }
            (Some(Value::Object(fields)), None) => {
                fields.remove(&unescaped(field));
            }
            (Some(Value::Array(items)), Some(value)) => {
                items[field.parse::<usize>().expect("an index")] = value.clone();
            }
            (Some(Value::Array(items)), None) => {
                items.remove(field.parse().expect("an index"));
            }
            _ => panic!("{} is not there", self.path),
        }
        spoilt
    }
}

/// All of them. Documents of one shape have the same ones, in the same order.
pub fn all(document: &Value) -> Vec<Corruption> {
    let mut found = Vec::new();
    walk(document, String::new(), &mut found);
    found
}

fn walk(value: &Value, path: String, found: &mut Vec<Corruption>) {
    if !path.is_empty() {
        found.extend(ways(value).into_iter().map(|(how, value)| Corruption {
            path: path.clone(),
            how,
            value,
        }));
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                walk(field, format!("{path}/{}", escaped(name)), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

type Way = (String, Option<Value>);

fn ways(value: &Value) -> Vec<Way> {
    let mut ways: Vec<Way> = vec![("removed".into(), None), ("null".into(), Some(Value::Null))];
    let others = [
        json!(true),
        json!(7),
        json!(-1),
        json!(1.5),
        json!(i64::MAX),
        json!(1e300),
        json!("text"),
        json!([]),
        json!({}),
        json!([value]),
    ];
    let others = others.into_iter().filter(|other| other != value);
    ways.extend(others.map(|other| (format!("{other:.40}"), Some(other))));
    if let Value::String(text) = value {
        ways.extend(texts(text).map(|(how, text)| (how.to_owned(), Some(json!(text)))));
        ways.extend(
            times(text)
                .into_iter()
                .map(|time| (time.to_owned(), Some(json!(time)))),
        );
        ways.extend(
            costs(text)
                .into_iter()
                .map(|(how, text)| (how, Some(json!(text)))),
        );
    }
    ways
}

fn texts(text: &str) -> impl Iterator<Item = (&'static str, String)> {
    let flipped = |at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let texts = [
        ("empty", String::new()),
        ("cut short", text[..text.len() / 2].to_owned()),
        (
            "cut by one",
            text[..text.len().saturating_sub(1)].to_owned(),
        ),
        ("a bit flipped at the beginning", flipped(0)),
        ("a bit flipped in the middle", flipped(text.len() / 2)),
        (
            "a bit flipped at the end",
            flipped(text.len().saturating_sub(2)),
        ),
        // A check may have no letters, and is spoilt all the same.
        ("upper case", format!("{}A", text.to_uppercase())),
        ("twice", format!("{text}{text}")),
        ("a line more", format!("{text}\n")),
        ("control characters", "\u{1b}[31m\u{0}\u{202e}".to_owned()),
        ("250 characters", "x".repeat(250)),
        ("500 characters", "x".repeat(500)),
        ("30,000 characters", "x".repeat(30_000)),
        ("300,000 characters", "x".repeat(300_000)),
    ];
    let text = text.to_owned();
    texts.into_iter().filter(move |(_, other)| *other != text)
}

fn times(text: &str) -> Vec<&'static str> {
    if text.parse::<jiff::Timestamp>().is_err() {
        return Vec::new();
    }
    vec![
        "0001-01-01T00:00:00Z",
        "2000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ]
}

/// Of a verifier: dearer than it may be, and otherwise than it is.
fn costs(text: &str) -> Vec<Text> {
    let parts: Vec<&str> = text.split('$').collect();
    let ["", "argon2id", version, _, salt, tag] = parts[..] else {
        return Vec::new();
    };
    let costs = [
        "m=65537,t=1,p=1",
        "m=1024,t=11,p=1",
        "m=1024,t=1,p=5",
        "m=4294967295,t=4294967295,p=16777215",
        "m=65536,t=10,p=4",
        "m=8,t=1,p=1",
        "m=0,t=0,p=0",
    ];
    let mut ways: Vec<Text> = costs
        .iter()
        .map(|cost| {
            (
                (*cost).to_owned(),
                format!("$argon2id${version}${cost}${salt}${tag}"),
            )
        })
        .collect();
    ways.push(("argon2i".into(), text.replace("argon2id", "argon2i")));
    ways.push(("no salt".into(), text.replace(salt, "")));
    ways.push(("no tag".into(), text.replace(tag, "")));
    ways.push(("$".into(), "$".repeat(300)));
    ways
}

type Text = (String, String);
