use axum::Router;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::*;
use crate::key::Check;
use crate::verifier::{HashProfile, Verifier};

const SECRET: &str = "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge";
const OTHER: &str = "kws_00000000000000000000000000000000000000000002XkAl1";
const KEY: &str = "kwk_0123456789abcdefghjkmnpqrs";
const BASE: &str = "/apis/keyward.dev/v1alpha1/namespaces/plant";

fn access_key(name: &str) -> Value {
    let secret = Secret::parse(SECRET).expect("well formed");
    json!({
        "apiVersion": "keyward.dev/v1alpha1",
        "kind": "AccessKey",
        "metadata": {"name": name, "namespace": "plant"},
        "spec": {"restrictions": {"deviceIds": ["pump-1"], "deviceTags": [{"key": "kind"}]}},
        "status": {"key": KEY, "verifiers": [{
            "revision": 1,
            "verifier": Verifier::of(&secret, HashProfile::Fleet).expect("hash").as_str(),
            "check": Check::of(KEY, &secret).as_str(),
            "issuedAt": "2026-01-01T00:00:00Z",
        }]},
    })
}

fn device(name: &str, created: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "keyward.dev/v1alpha1",
        "kind": "Device",
        "metadata": {"name": name, "namespace": "plant", "creationTimestamp": created},
        "spec": spec,
    })
}

fn with(mut manifest: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    manifest.pointer_mut(parent).expect("a parent")[field] = value;
    manifest
}

fn list(items: &[Value]) -> (u16, Value) {
    (
        200,
        json!({"apiVersion": "keyward.dev/v1alpha1", "kind": "List", "metadata": {}, "items": items}),
    )
}

fn failure(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        503 => "ServiceUnavailable",
        _ => "",
    };
    let status = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    });
    (code, status)
}

/// As the API server says it of the Device that has the ID for a name.
fn absent() -> (u16, Value) {
    let details = json!({"name": "pump-1", "group": "keyward.dev", "kind": "devices"});
    let (code, status) = failure(404, "not found");
    (code, with(status, "/details", details))
}

/// A server that answers three requests, each over HTTP: keys by `status.key`, Devices by
/// `spec.deviceId`, and the Device that has the ID for a name.
struct Server {
    keys: (u16, Value),
    devices: (u16, Value),
    named: (u16, Value),
}

impl Server {
    fn with_keys(keys: &[Value]) -> Self {
        Self {
            keys: list(keys),
            devices: list(&[]),
            named: absent(),
        }
    }

    fn with_devices(mut self, devices: &[Value]) -> Self {
        self.devices = list(devices);
        self
    }

    fn answer(&self, uri: &Uri) -> (u16, Value) {
        let query = uri.query().unwrap_or_default().trim_start_matches('&');
        let expected =
            |field: &str, value: &str| query == format!("fieldSelector={field}%3D{value}");
        match uri.path().strip_prefix(BASE) {
            Some("/accesskeys") if expected("status.key", KEY) => self.keys.clone(),
            Some("/devices") if expected("spec.deviceId", "pump-1") => self.devices.clone(),
            Some("/devices/pump-1") => self.named.clone(),
            _ => failure(418, &format!("an unexpected request for {uri}")),
        }
    }

    async fn start(self) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = std::sync::Arc::new(self);
        let router = Router::new().fallback(move |uri: Uri| async move {
            let (code, body) = server.answer(&uri);
            (
                StatusCode::from_u16(code).expect("a status"),
                body.to_string(),
            )
        });
        tokio::spawn(async { axum::serve(listener, router).await });
        client(&address.to_string())
    }
}

fn client(address: &str) -> Client {
    _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = kube::Config::new(format!("http://{address}").parse().expect("an address"));
    config.default_retry = false;
    Client::try_from(config).expect("a client")
}

fn args() -> CheckArgs {
    CheckArgs {
        namespace: "plant".into(),
        device: "pump-1".into(),
        key: KEY.into(),
        source: None,
    }
}

fn input(text: &str) -> impl FnOnce() -> Result<Zeroizing<String>, UnreadableInput> {
    let bytes = Zeroizing::new(text.as_bytes().to_vec());
    move || input::one_line(bytes)
}

/// Exit code, standard output and standard error of the command.
async fn check(args: &CheckArgs, secret: &str, client: Client) -> (ExitCode, String, String) {
    written(answer(args, input(secret), async { Ok::<_, String>(client) }).await)
}

fn written(answer: Result<Decision, CannotTell>) -> (ExitCode, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = report(answer, KEY, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (code, text(out), text(err))
}

fn allow() -> (ExitCode, String, String) {
    (ExitCode::from(0), "Allow\n".into(), String::new())
}

fn deny(reason: Reason) -> (ExitCode, String, String) {
    (
        ExitCode::from(1),
        format!("Deny: {reason}\n"),
        String::new(),
    )
}

#[tokio::test]
async fn a_device_with_the_secret_is_admitted() {
    for secret in [
        SECRET.to_owned(),
        format!("{SECRET}\n"),
        format!("{SECRET}\r\n"),
    ] {
        let client = Server::with_keys(&[access_key("fleet")]).start().await;
        assert_eq!(check(&args(), &secret, client).await, allow());
    }
}

#[tokio::test]
async fn denials_say_why() {
    let key = access_key("fleet");
    let inactive = with(key.clone(), "/spec/state", json!("Inactive"));
    let elsewhere = with(
        key.clone(),
        "/spec/restrictions",
        json!({"deviceIds": ["pump-2"]}),
    );
    let deleted = with(
        key.clone(),
        "/metadata/deletionTimestamp",
        json!("2026-01-01T00:00:00Z"),
    );
    let another = with(
        key.clone(),
        "/status/key",
        json!("kwk_00000000000000000000000000"),
    );
    let never_issued = with(key.clone(), "/status", json!({}));
    let rows = [
        (vec![], SECRET, Reason::UnknownKey),
        (vec![deleted], SECRET, Reason::UnknownKey),
        (vec![another], SECRET, Reason::UnknownKey),
        (vec![never_issued], SECRET, Reason::UnknownKey),
        (vec![inactive], SECRET, Reason::Inactive),
        (vec![elsewhere], SECRET, Reason::OutOfScope),
        (vec![key], OTHER, Reason::BadSecret),
    ];
    for (keys, secret, reason) in rows {
        let client = Server::with_keys(&keys).start().await;
        assert_eq!(check(&args(), secret, client).await, deny(reason));
    }
}

#[tokio::test]
async fn of_two_devices_with_one_id_the_older_counts() {
    let spec = |disabled: bool| json!({"deviceId": "pump-1", "disabled": disabled});
    let old = |disabled| device("b", "2026-01-01T00:00:00Z", spec(disabled));
    let new = |disabled| device("a", "2026-01-01T00:00:01Z", spec(disabled));
    let named = |created, spec| Some(device("pump-1", created, spec));
    let deleted = |device| {
        with(
            device,
            "/metadata/deletionTimestamp",
            json!("2026-01-02T00:00:00Z"),
        )
    };
    let older = "2025-01-01T00:00:00Z";
    let rows = [
        (
            vec![old(true), new(false)],
            None,
            deny(Reason::DeviceDisabled),
        ),
        (vec![new(true), old(false)], None, allow()),
        (vec![deleted(old(true)), new(false)], None, allow()),
        (vec![old(true)], named(older, json!({})), allow()),
        (
            vec![old(false)],
            named(older, json!({"disabled": true})),
            deny(Reason::DeviceDisabled),
        ),
        (
            vec![],
            named(older, json!({"class": "System"})),
            deny(Reason::DeviceClass),
        ),
        // One whose name is the ID, and whose ID is another.
        (
            vec![],
            named(older, json!({"deviceId": "x", "disabled": true})),
            allow(),
        ),
    ];
    for (row, (devices, named, expected)) in rows.into_iter().enumerate() {
        let mut server = Server::with_keys(&[access_key("fleet")]).with_devices(&devices);
        if let Some(device) = named {
            server.named = (200, device);
        }
        assert_eq!(
            check(&args(), SECRET, server.start().await).await,
            expected,
            "row {row}"
        );
    }
}

#[tokio::test]
async fn tags_of_a_device_count() {
    let key = with(
        access_key("fleet"),
        "/spec/restrictions",
        json!({"deviceTags": [{"key": "kind"}]}),
    );
    let tagged = |key: &str| json!({"deviceId": "pump-1", "tags": [{"key": key, "value": "x"}]});
    for (tag, expected) in [("kind", allow()), ("other", deny(Reason::OutOfScope))] {
        let server = Server::with_keys(std::slice::from_ref(&key));
        let server = server.with_devices(&[device("a", "2026-01-01T00:00:00Z", tagged(tag))]);
        assert_eq!(check(&args(), SECRET, server.start().await).await, expected);
    }
}

#[tokio::test]
async fn what_is_malformed_is_refused_without_a_cluster() {
    let odd = CheckArgs {
        device: "pump/1".into(),
        ..args()
    };
    for (args, secret) in [(args(), "kws_typo"), (args(), KEY), (odd, SECRET)] {
        let unreachable = client("127.0.0.1:1");
        assert_eq!(
            check(&args, secret, unreachable).await,
            deny(Reason::Malformed)
        );
    }
}

#[tokio::test]
async fn of_two_access_keys_with_one_key_the_older_has_it() {
    let made =
        |name: &str, at: &str| with(access_key(name), "/metadata/creationTimestamp", json!(at));
    let older = made("b", "2026-01-01T00:00:00Z");
    let younger = made("a", "2026-01-01T00:00:01Z");
    let younger = with(younger, "/spec/state", json!("Inactive"));
    for keys in [[&older, &younger], [&younger, &older]] {
        let client = Server::with_keys(&keys.map(Value::clone)).start().await;
        assert_eq!(check(&args(), SECRET, client).await, allow());
    }
}

#[tokio::test]
async fn what_keeps_it_from_telling_is_one_sentence() {
    let key = access_key("fleet");
    let open = with(key.clone(), "/spec/restrictions", json!({}));
    let mistyped = with(key.clone(), "/spec/state", json!("Paused"));
    let under_way = json!({"revision": 2, "attempts": key["status"]["verifiers"]});
    let under_way = with(under_way, "/attempts/0/at", json!("2026-01-01T00:00:00Z"));
    let issuing = with(
        with(key.clone(), "/status/verifiers", json!([])),
        "/status/issuance",
        under_way,
    );
    let broken = device(
        "broken",
        "2026-01-01T00:00:00Z",
        json!({"deviceId": "pump-1", "class": "Robot"}),
    );
    let keys = |keys: (u16, Value)| Server {
        keys,
        ..Server::with_keys(&[])
    };
    let devices = |devices: (u16, Value)| Server {
        devices,
        ..Server::with_keys(std::slice::from_ref(&key))
    };
    let rows = [
        (
            keys(list(&[open])),
            r#"cannot read AccessKey "fleet": restrictions is empty"#,
        ),
        (
            keys(list(&[mistyped])),
            r#"cannot read AccessKey "fleet": "#,
        ),
        (keys(list(&[issuing])), "is being issued right now"),
        (
            keys(failure(401, "Unauthorized")),
            "does not accept the credentials",
        ),
        (
            keys(failure(403, "forbidden")),
            r#"accesskeys.keyward.dev in namespace "plant": ask for a role"#,
        ),
        (keys(failure(404, "not found")), "apply the crds/"),
        (
            keys(failure(400, "field label not supported: status.key")),
            "not the field they are looked up by: apply the crds/",
        ),
        (keys(failure(503, "etcd is away")), "etcd is away"),
        (
            keys((200, json!("no list"))),
            "cannot be read: check that KUBECONFIG names an API server",
        ),
        (
            devices(failure(403, "forbidden")),
            r#"devices.keyward.dev in namespace "plant": ask for a role"#,
        ),
        (devices(list(&[broken])), r#"cannot read Device "broken": "#),
    ];
    for (server, expected) in rows {
        let (code, out, err) = check(&args(), SECRET, server.start().await).await;
        assert_eq!((code, out.as_str()), (ExitCode::from(2), ""), "{err}");
        assert!(
            err.contains(expected) && err.lines().count() == 1,
            "{err:?} {expected}"
        );
        assert!(!err.contains(SECRET) && !err.contains("$argon2id"), "{err}");
    }
}

/// A Device that is not there has no say, so a key that admits all devices would admit this one.
#[tokio::test]
async fn only_a_status_about_the_device_says_that_there_is_none() {
    let about = |name: &str, kind: &str| {
        let (code, status) = absent();
        let details = json!({"name": name, "group": "keyward.dev", "kind": kind});
        (code, with(status, "/details", details))
    };
    let rows = [
        (404, json!("<html>no such page</html>")),
        (404, json!({})),
        failure(404, "not found"),
        about("plant", "namespaces"),
        about("pump-2", "devices"),
    ];
    for named in rows {
        let server = Server {
            named: named.clone(),
            ..Server::with_keys(&[access_key("fleet")])
        };
        let (code, out, _) = check(&args(), SECRET, server.start().await).await;
        assert_eq!((code, &*out), (ExitCode::from(2), ""), "{named:?}");
    }
}

#[tokio::test]
async fn what_others_wrote_is_neither_repeated_at_length_nor_sent_to_the_terminal() {
    let page = json!("\u{1b}[31m<html>some page</html>\n");
    for answer in [
        (502, page.clone()),
        (200, page.clone()),
        (502, json!({"message": page})),
    ] {
        let server = Server {
            keys: answer,
            ..Server::with_keys(&[])
        };
        let (code, _, err) = check(&args(), SECRET, server.start().await).await;
        assert_eq!(code, ExitCode::from(2));
        assert!(!err.contains("page") && err.lines().count() == 1, "{err}");
    }

    let odd = with(
        access_key("fleet"),
        "/spec/state",
        json!("\u{1b}[31m\u{202e}x"),
    );
    let server = Server::with_keys(&[odd]);
    let (_, _, err) = check(&args(), SECRET, server.start().await).await;
    assert!(err.contains(r"\u{1b}[31m\u{202e}x"), "{err}");
    assert!(!err.contains(['\u{1b}', '\u{202e}']), "{err:?}");
}

#[tokio::test]
async fn without_an_api_server_it_cannot_tell() {
    let (code, _, err) = check(&args(), SECRET, client("127.0.0.1:1")).await;
    assert_eq!(code, ExitCode::from(2));
    assert!(
        err.starts_with("cannot reach the API server") && err.lines().count() == 1,
        "{err}"
    );

    let no_client = async { Err::<Client, _>("no context") };
    let (code, _, err) = written(answer(&args(), input(SECRET), no_client).await);
    assert_eq!(code, ExitCode::from(2));
    assert!(err.contains("no context; set KUBECONFIG"), "{err}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = silent.local_addr().expect("an address").to_string();
    let deadline = Duration::from_millis(50);
    let cluster = Cluster {
        client: client(&address),
        namespace: "plant",
        deadline,
    };
    let presented = Presented {
        namespace: "plant",
        key: KEY,
        device_id: "pump-1",
        secret: SECRET,
        source: None,
    };
    let (code, _, err) = written(cluster.decide(&presented).await);
    assert_eq!(code, ExitCode::from(2));
    assert!(err.contains("did not answer within 50ms"), "{err}");
}

#[tokio::test]
async fn input_that_is_no_line_of_text_is_named() {
    let two = format!("{SECRET}\n{SECRET}\n");
    for (text, expected) in [
        ("", "nothing"),
        ("\n", "nothing"),
        ("\r\n", "nothing"),
        (&two, "more than one line"),
    ] {
        let (code, _, err) = check(&args(), text, client("127.0.0.1:1")).await;
        assert_eq!(code, ExitCode::from(2));
        assert!(
            err.contains(&format!("it holds {expected}")) && !err.contains(SECRET),
            "{err}"
        );
    }
    let binary = input::one_line(Zeroizing::new(vec![0xff, 0xfe])).expect_err("no text");
    assert!(binary.to_string().contains("something else than text"));
}

#[tokio::test]
async fn a_secret_among_the_arguments_is_refused_and_not_repeated() {
    let as_key = CheckArgs {
        key: SECRET.into(),
        ..args()
    };
    let as_device = CheckArgs {
        device: SECRET.into(),
        ..args()
    };
    for (args, flag) in [(as_key, "--key"), (as_device, "--device")] {
        let (code, out, err) = check(&args, OTHER, client("127.0.0.1:1")).await;
        assert_eq!((code, out), (ExitCode::from(2), String::new()));
        assert!(err.contains(flag) && !err.contains(SECRET), "{err}");
    }
}

#[test]
fn arguments_come_from_flags_and_no_flag_takes_the_secret() {
    let command = CheckArgs::augment_args(clap::Command::new("check"));
    let flags: Vec<_> = command
        .get_arguments()
        .map(|arg| (arg.get_long(), arg.get_env()))
        .collect();
    let expected = [
        ("namespace", "KEYWARD_NAMESPACE"),
        ("device", "KEYWARD_DEVICE"),
        ("key", "KEYWARD_KEY"),
        ("source", "KEYWARD_SOURCE"),
    ];
    assert_eq!(
        flags,
        expected.map(|(flag, env)| (Some(flag), Some(env.as_ref())))
    );

    for (namespace, key) in [
        ("", KEY),
        ("a/b", KEY),
        ("..", KEY),
        ("Plant", KEY),
        ("plant", ""),
    ] {
        let line = [
            "check",
            "--namespace",
            namespace,
            "--device",
            "pump-1",
            "--key",
            key,
        ];
        assert_eq!(
            command
                .clone()
                .try_get_matches_from(line)
                .err()
                .map(|error| error.exit_code()),
            Some(2)
        );
    }
}

#[test]
fn a_key_cannot_widen_the_field_selector() {
    assert_eq!(escape(r"a,b=c\d"), r"a\,b\=c\\d");
    assert_eq!(escape(KEY), KEY);
}
