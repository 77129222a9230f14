//! What devices ask for, and what they are told.

use super::*;

#[tokio::test]
async fn a_device_gets_what_losant_s_contract_says() {
    let gateway = Gateway::new();
    gateway.device("gate", json!({ "class": "Gateway" }));
    for (device, class) in [
        ("pump-1", "standalone"),
        ("gate", "gateway"),
        ("5f2c0a9b8d7e6f5a4b3c2d1e", "standalone"),
    ] {
        let answer = gateway.auth(device, KEY, SECRET).await;
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, Some("no-store"))
        );
        let mut said = answer.json();
        assert!(
            said["token"]
                .take()
                .as_str()
                .is_some_and(|token| token.split('.').count() == 3)
        );
        let expected = json!({
            "applicationId": "plant", "deviceId": device, "deviceClass": class, "token": null,
            "filterType": "none", "pubTopics": [], "subTopics": [],
        });
        assert_eq!(said, expected);
    }
    let topics =
        json!({ "filter": "AllowList", "publish": ["logs/{device}"], "subscribe": ["news/#"] });
    gateway.apply(json!({ "restrictions": { "allDevices": true }, "topics": topics }));
    let said = gateway.auth("pump-1", KEY, SECRET).await.json();
    assert_eq!(said["filterType"], "whitelist");
    assert_eq!(
        (&said["pubTopics"], &said["subTopics"]),
        (&json!(["logs/pump-1"]), &json!(["news/#"]))
    );
}

/// Whoever is refused sees the same, whatever the reason.
#[tokio::test]
async fn all_refusals_look_the_same() {
    let gateway = Gateway::new();
    gateway.device("gate", json!({ "class": "Peripheral" }));
    let long = "x".repeat(300);
    let mut rows: Vec<(String, String, String)> = Vec::new();
    let mut row = |device: &str, key: &str, secret: &str| {
        rows.push((device.to_owned(), key.to_owned(), secret.to_owned()));
    };
    row("pump-1", KEY, WRONG);
    row("pump-1", "kwk_zzzzzzzzzzzzzzzzzzzzzzzzzz", SECRET);
    row("pump-2", KEY, SECRET);
    row("gate", KEY, SECRET);
    for odd in [
        "",
        "#",
        "+",
        "a/b",
        "*",
        ">",
        "$SYS",
        "a b",
        "é",
        "a\0",
        "plant.pump-1",
        "../x",
        "%00",
        "\n",
        &long,
        "{device}",
        "pump-1 ",
        "PUMP-1",
        "null",
        "'--",
    ] {
        row(odd, KEY, SECRET);
        row("pump-1", odd, SECRET);
        row("pump-1", KEY, odd);
        row(odd, odd, odd);
    }
    for cut in 0..SECRET.len() {
        row("pump-1", KEY, &SECRET[..cut]);
        row(
            "pump-1",
            KEY,
            &format!("{}\0{}", &SECRET[..cut], &SECRET[cut..]),
        );
    }
    for cut in 0..KEY.len() {
        row("pump-1", &KEY[..cut], SECRET);
    }
    assert!(rows.len() >= 200, "{}", rows.len());
    let expected = gateway.auth("pump-1", KEY, WRONG).await.seen();
    assert_eq!(expected.0, 401);
    for (device, key, secret) in rows {
        let seen = gateway.auth(&device, &key, &secret).await.seen();
        assert_eq!(seen, expected, "{device:?} {key:?} {secret:?}");
    }
    gateway.apply(json!({ "restrictions": { "allDevices": true }, "state": "Inactive" }));
    assert_eq!(gateway.auth("pump-1", KEY, SECRET).await.seen(), expected);
    let sources = json!({ "filter": "AllowList", "cidrs": ["10.0.0.0/8"] });
    gateway.apply(json!({ "restrictions": { "allDevices": true }, "sources": sources }));
    assert_eq!(gateway.auth("pump-1", KEY, SECRET).await.seen(), expected);
}

#[tokio::test]
async fn bodies_that_are_none_are_refused_alike() {
    let gateway = Gateway::new();
    let good = json!({ "deviceId": "pump-1", "key": KEY, "secret": SECRET });
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body.to_string()
    };
    let mut rows: Vec<Vec<u8>> = [
        "",
        " ",
        "null",
        "[]",
        "{}",
        "\"x\"",
        "7",
        "{",
        "}",
        "deviceId=pump-1",
        "<a/>",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    rows.extend([&b"\xff"[..], b"\0", b"{\"deviceId\":\"\xff\"}"].map(<[u8]>::to_vec));
    for value in [
        json!(null),
        json!(7),
        json!(true),
        json!([]),
        json!({}),
        json!(["pump-1"]),
    ] {
        rows.push(with("deviceId", value.clone()).into());
        rows.push(with("key", value.clone()).into());
        rows.push(with("secret", value.clone()).into());
        rows.push(with("other", value).into());
    }
    let text = good.to_string();
    rows.extend((0..text.len()).map(|at| text.as_bytes()[..at].to_vec()));
    rows.push(json!([good.clone()]).to_string().into());
    rows.push(format!("{text}{text}").into());
    rows.push(text.replace("\"key\"", "\"deviceId\"").into());
    let expected = gateway.post("/auth/device", "nonsense").await.seen();
    assert_eq!(expected.0, 400);
    for row in rows {
        let seen = gateway.post("/auth/device", row.clone()).await.seen();
        assert_eq!(seen, expected, "{}", String::from_utf8_lossy(&row));
    }
    for (name, value) in [
        ("tokenTTL", json!(0)),
        ("tokenTTL", json!(86_401)),
        ("tokenTTL", json!(-1)),
        ("tokenTTL", json!(1.5)),
        ("tokenTTL", json!("60")),
        ("requestedScopes", json!(["all.User"])),
        ("requestedScopes", json!("all.Device")),
    ] {
        let answer = gateway
            .post("/auth/device", with(name, value.clone()))
            .await;
        assert_eq!(answer.status, 400, "{name} {value}");
    }
    for name in ["tokenTTL", "requestedScopes"] {
        let answer = gateway.post("/auth/device", with(name, Value::Null)).await;
        assert_eq!(
            answer.status, 400,
            "{name} is left out or said, but not null"
        );
    }
    let written = with("tokenTTL", json!(60.0));
    assert!(written.contains("60.0"), "{written}");
    assert_eq!(gateway.post("/auth/device", written).await.status, 200);
}

#[tokio::test]
async fn what_is_too_large_is_refused_as_each_endpoint_refuses() {
    let gateway = Gateway::new();
    let large = "x".repeat(LARGEST_BODY + 1);
    let said = json!({ "type": "Validation", "message": "The body must come whole and have at most 16384 bytes." });
    for (router, path, body) in [
        (gateway.api.devices(), "/auth/device", &said),
        (
            gateway.api.devices(),
            "/oauth/token",
            &json!({ "error": "invalid_request" }),
        ),
        (gateway.api.brokers(), "/introspect", &said),
        (gateway.api.brokers(), "/authorize", &said),
    ] {
        let request = Request::post(path).body(large.clone().into());
        let answer = gateway.ask(router, request.expect("a request")).await;
        assert_eq!((answer.status, &answer.json()), (413, body), "{path}");
    }
}

#[tokio::test]
async fn the_token_endpoint_of_rfc_6749_says_what_it_should() {
    let gateway = Gateway::new();
    let basic = |user: &str, password: &str| {
        use base64ct::{Base64, Encoding};
        format!(
            "Basic {}",
            Base64::encode_string(format!("{user}:{password}").as_bytes())
        )
    };
    let right = basic(KEY, SECRET);
    let in_body = format!(
        "grant_type=client_credentials&device_id=pump-1&client_id={KEY}&client_secret={SECRET}"
    );
    let rows: Vec<(Option<&str>, &str, u16, &str)> = vec![
        (
            Some(&right),
            "grant_type=client_credentials&device_id=pump-1",
            200,
            "",
        ),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=pump-1&scope=device.get",
            200,
            "",
        ),
        (None, &in_body, 200, ""),
        (Some(&right), &in_body, 400, "invalid_request"),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=pump-1&client_id=&client_secret=",
            200,
            "",
        ),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=pump-1&scope=all.User",
            400,
            "invalid_scope",
        ),
        (
            Some(&right),
            "grant_type=password&device_id=pump-1",
            400,
            "unsupported_grant_type",
        ),
        (Some(&right), "device_id=pump-1", 400, "invalid_request"),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=a&device_id=b",
            400,
            "invalid_request",
        ),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=stranger",
            401,
            "invalid_client",
        ),
        (
            Some(&right),
            "grant_type=client_credentials",
            401,
            "invalid_client",
        ),
        (
            None,
            "grant_type=client_credentials&device_id=pump-1",
            401,
            "invalid_client",
        ),
        (
            Some("Basic !"),
            "grant_type=client_credentials&device_id=pump-1",
            401,
            "invalid_client",
        ),
        (
            Some("Bearer x"),
            "grant_type=client_credentials&device_id=pump-1",
            401,
            "invalid_client",
        ),
    ];
    for (credentials, body, status, error) in rows {
        let mut request = Request::post("/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(credentials) = credentials {
            request = request.header("authorization", credentials);
        }
        let request = request.body(body.to_owned().into()).expect("a request");
        let answer = gateway.ask(gateway.api.devices(), request).await;
        assert_eq!(answer.status, status, "{body}");
        match error {
            "" => assert_eq!(answer.json()["token_type"], "Bearer"),
            error => assert_eq!(answer.json()["error"], error, "{body}"),
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}
