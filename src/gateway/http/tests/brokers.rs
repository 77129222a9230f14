//! What brokers ask over HTTP, in their own words.

use super::*;

/// A question of RabbitMQ, as a form.
async fn rabbitmq(gateway: &Gateway, path: &str, form: &[(&str, &str)]) -> Answer {
    let body = serde_urlencoded::to_string(form).expect("a form");
    let request = Request::post(format!("/rabbitmq/{path}"));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let request = request.body(body.into()).expect("a request");
    decided_once(gateway, request).await
}

/// Each question is one decision, whoever refuses it, unless it cannot be read.
async fn decided_once(gateway: &Gateway, request: Request<Body>) -> Answer {
    let decided = || gateway.api.0.authenticator.0.metrics.all_decided();
    let before = decided();
    let answer = gateway.ask(gateway.api.brokers(), request).await;
    let is_read = answer.status != 400;
    assert_eq!(decided() - before, u64::from(is_read));
    answer
}

async fn says(gateway: &Gateway, path: &str, form: &[(&str, &str)]) -> String {
    let answer = rabbitmq(gateway, path, form).await;
    assert_eq!(answer.status, 200, "{form:?}");
    String::from_utf8(answer.body).expect("text")
}

/// This form, with one field otherwise.
fn but<'a>(form: &[(&'a str, &'a str)], name: &str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let form = form
        .iter()
        .map(|(own, old)| (*own, if *own == name { value } else { *old }));
    form.collect()
}

const USER: [(&str, &str); 4] = [
    ("username", KEY),
    ("password", SECRET),
    ("vhost", "/"),
    ("client_id", "pump-1"),
];
const WHO: [(&str, &str); 4] = [
    ("username", KEY),
    ("vhost", "/"),
    ("tags", "keyward-1"),
    ("client_id", "pump-1"),
];

#[tokio::test]
async fn rabbitmq_logs_devices_in_and_nobody_else() {
    let gateway = Gateway::new();
    assert_eq!(says(&gateway, "user", &USER).await, "allow keyward-1");
    let refused = [
        ("password", WRONG),
        ("password", ""),
        ("username", "guest"),
        ("client_id", "pump-2"),
        ("client_id", "#"),
        ("client_id", ""),
    ];
    for (name, value) in refused {
        assert_eq!(
            says(&gateway, "user", &but(&USER, name, value)).await,
            "deny",
            "{name}={value}"
        );
    }
    assert_eq!(
        says(&gateway, "user", &USER[..3]).await,
        "deny",
        "a login by AMQP"
    );
    assert_eq!(rabbitmq(&gateway, "user", &[]).await.status, 400);

    gateway
        .hand
        .advance(std::time::Duration::from_secs(25 * 60 * 60));
    assert_eq!(
        rabbitmq(&gateway, "user", &USER).await.status,
        503,
        "nobody can tell"
    );
}

#[tokio::test]
async fn rabbitmq_is_told_what_a_device_may_use() {
    let gateway = Gateway::new();
    let vhost = [&WHO[..], &[("ip", "192.0.2.7")]].concat();
    let queue = [
        &WHO[..],
        &[
            ("resource", "queue"),
            ("name", "mqtt-subscription-pump-1qos1"),
            ("permission", "configure"),
        ],
    ]
    .concat();
    let exchange = but(&but(&queue, "resource", "exchange"), "name", "amq.topic");
    for (path, form) in [
        ("vhost", &vhost),
        ("resource", &queue),
        ("resource", &exchange),
    ] {
        assert_eq!(says(&gateway, path, form).await, "allow");
        let refused = [
            ("vhost", "other"),
            ("tags", ""),
            ("tags", "keyward-2"),
            ("tags", "administrator"),
            ("username", "guest"),
            ("client_id", "pump-2"),
        ];
        for (name, value) in refused {
            assert_eq!(
                says(&gateway, path, &but(form, name, value)).await,
                "deny",
                "{path} {name}={value}"
            );
        }
    }
    for (name, value) in [
        ("name", "mqtt-subscription-pump-2qos1"),
        ("name", "mqtt-subscription-pump-1qos1x"),
        ("name", "orders"),
        ("resource", "exchange"),
        ("resource", "topic"),
    ] {
        assert_eq!(
            says(&gateway, "resource", &but(&queue, name, value)).await,
            "deny",
            "{name}={value}"
        );
    }
    gateway.apply(json!({ "restrictions": { "deviceIds": ["pump-1"] }, "state": "Inactive" }));
    assert_eq!(says(&gateway, "vhost", &vhost).await, "deny");
}

#[tokio::test]
async fn rabbitmq_is_told_what_a_device_may_send_and_receive() {
    let gateway = Gateway::new();
    let topic = |permission, routing_key| {
        vec![
            ("username", KEY),
            ("vhost", "/"),
            ("name", "amq.topic"),
            ("permission", permission),
            ("routing_key", routing_key),
            ("tags", "keyward-1"),
            ("variable_map.client_id", "pump-1"),
        ]
    };
    let rows = [
        ("write", "devices.pump-1.state", "allow"),
        ("write", "devices.pump-1.command", "deny"),
        ("write", "devices.gate.command", "allow"),
        ("write", "devices.pump-2.command", "deny"),
        ("write", "devices.*.command", "deny"),
        ("read", "devices.gate.state", "allow"),
        ("read", "devices.pump-2.state", "deny"),
        // It would not ask about what comes.
        ("read", "devices.*.state", "deny"),
        ("read", "#", "deny"),
        ("configure", "devices.pump-1.state", "deny"),
    ];
    for (permission, routing_key, answer) in rows {
        let form = topic(permission, routing_key);
        assert_eq!(
            says(&gateway, "topic", &form).await,
            answer,
            "{permission} {routing_key}"
        );
    }
    let own = topic("write", "devices.pump-1.state");
    for (name, value) in [
        ("name", "amq.direct"),
        ("tags", "keyward-7"),
        ("vhost", "x"),
        ("variable_map.client_id", "a b"),
    ] {
        assert_eq!(
            says(&gateway, "topic", &but(&own, name, value)).await,
            "deny",
            "{name}={value}"
        );
    }
    gateway.apply(json!({ "restrictions": { "allDevices": true } }));
    assert_eq!(
        says(&gateway, "topic", &topic("read", "devices.*.state")).await,
        "allow"
    );
}

#[tokio::test]
async fn go_auth_is_answered_by_status_and_by_body() {
    let gateway = Gateway::new();
    let ask = async |path: &str, kind: &str, body: String| {
        let request = Request::post(format!("/goauth/{path}")).header("content-type", kind);
        let answer = decided_once(&gateway, request.body(body.into()).expect("a request"));
        let answer = answer.await;
        assert_eq!(answer.json()["ok"], json!(answer.status == 200));
        answer.status
    };
    let user = |secret: &str, id: &str| {
        json!({ "username": KEY, "password": secret, "clientid": id }).to_string()
    };
    assert_eq!(
        ask("user", "application/json", user(SECRET, "pump-1")).await,
        200
    );
    assert_eq!(
        ask("user", "application/json", user(WRONG, "pump-1")).await,
        403
    );
    assert_eq!(
        ask("user", "application/json", user(SECRET, "pump-2")).await,
        403
    );
    assert_eq!(
        ask(
            "user",
            "application/json",
            json!({ "username": KEY, "password": SECRET }).to_string()
        )
        .await,
        403
    );
    let form = format!("username={KEY}&password={SECRET}&client_id=pump-1");
    assert_eq!(
        ask("user", "application/x-www-form-urlencoded", form).await,
        200
    );

    let rows = [
        (1, "devices/gate/state", 200),
        (1, "devices/pump-2/state", 403),
        (2, "devices/pump-1/state", 200),
        (2, "devices/pump-1/command", 403),
        (4, "devices/+/state", 200),
        (4, "#", 403),
        (3, "devices/pump-1/state", 403),
    ];
    for (acc, topic, status) in rows {
        let body = json!({ "username": KEY, "clientid": "pump-1", "topic": topic, "acc": acc });
        assert_eq!(
            ask("acl", "application/json", body.to_string()).await,
            status,
            "{acc} {topic}"
        );
        let form = format!("username={KEY}&clientid=pump-1&topic={topic}&acc={acc}")
            .replace('+', "%2B")
            .replace('#', "%23");
        assert_eq!(
            ask("acl", "application/x-www-form-urlencoded", form).await,
            status,
            "{acc} {topic}"
        );
    }
}
