//! What services and front ends ask about a token.

use super::*;

/// What goes past the router, and what does not.
#[tokio::test]
async fn front_ends_are_answered_as_the_router_would() {
    let gateway = Gateway::new();
    gateway.apply(json!({
        "restrictions": { "deviceIds": ["pump-1"] },
        "sources": { "filter": "AllowList", "cidrs": ["192.0.2.1/32"] },
    }));
    let good = format!("Bearer {}", gateway.token("pump-1").await);
    let mut statuses = BTreeSet::new();
    for path in [
        "/forward-auth",
        "/forward-auth?keyward_action=getState&keyward_target=pump-1",
        "/forward-auth?keyward_action=getState&keyward_target=pump-2",
        "/forward-auth/",
        "/ext-authz/forward-auth",
        "/introspect",
        "/nowhere",
    ] {
        for authorization in [&*good, "Bearer x", ""] {
            for method in ["GET", "POST"] {
                let request = || {
                    let request = Request::builder().method(method).uri(path);
                    let request = request.header("authorization", authorization);
                    request.body(Body::empty()).expect("a request")
                };
                let sooner = gateway.ask(gateway.api.front_ends(), request()).await;
                let routed = gateway.ask(gateway.api.brokers(), request()).await;
                // Which the connection adds.
                let said = |mut answer: Answer| {
                    answer.headers.remove("content-length");
                    (answer.status, answer.headers, answer.body)
                };
                statuses.insert(sooner.status);
                assert_eq!(
                    said(sooner),
                    said(routed),
                    "{method} {path} {authorization}"
                );
            }
        }
    }
    assert_eq!(statuses, BTreeSet::from([200, 400, 401, 403, 404, 405]));
}

#[tokio::test]
async fn forward_auth_names_the_device_and_overwrites_what_the_client_claims() {
    let gateway = Gateway::new();
    let token = gateway.token("pump-1").await;
    let claimed = [
        ("x-keyward-device", "spoofed"),
        ("x-keyward-key", "spoofed"),
    ];
    let answer = gateway.forward(&token, "", &claimed).await;
    assert_eq!(answer.status, 200);
    let named = ["device", "key", "namespace", "class"].map(|name| {
        answer
            .header(&format!("x-keyward-{name}"))
            .expect("a header")
            .to_owned()
    });
    assert_eq!(named, ["pump-1", KEY, "plant", "Standalone"]);

    for wrong in ["", "x", "a.b.c", &token[..token.len() - 1]] {
        let answer = gateway.forward(wrong, "", &claimed).await;
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.header("www-authenticate").is_some());
        for name in ["device", "key", "namespace", "class"] {
            assert_eq!(answer.header(&format!("x-keyward-{name}")), Some(""));
        }
    }
}

#[tokio::test]
async fn ext_authz_answers_whatever_path_is_asked_about() {
    let gateway = Gateway::new();
    let token = gateway.token("pump-1").await;
    for path in ["", "/", "//", "/firmware", "/firmware/?version=1", "?a=b"] {
        let request = Request::get(format!("/ext-authz{path}"));
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::empty()).expect("a request");
        let answer = gateway.ask(gateway.api.brokers(), request).await;
        assert_eq!(answer.status, 200, "{path:?}");
        assert_eq!(answer.header("x-keyward-device"), Some("pump-1"));
    }
}

#[tokio::test]
async fn an_act_on_a_device_is_judged_like_a_topic() {
    let gateway = Gateway::new();
    let token = gateway.token("pump-1").await;
    let about = |act: &str, target: &str| format!("?keyward_action={act}&keyward_target={target}");
    let rows = [
        ("sendState", "pump-1", 200),
        ("sendCommand", "pump-1", 403),
        ("getState", "pump-1", 200),
        ("getCommand", "pump-1", 200),
        ("sendState", "gate", 403),
        ("sendCommand", "gate", 200),
        ("getState", "gate", 200),
        ("getState", "stranger", 403),
        ("sendCommand", "stranger", 403),
        ("getState", "%23", 403),
        ("getState", "%2B", 403),
        ("getState", "gate/state", 403),
        ("getState", "", 403),
        ("fly", "pump-1", 403),
        ("", "pump-1", 403),
    ];
    for (act, target, status) in rows {
        let answer = gateway.forward(&token, &about(act, target), &[]).await;
        assert_eq!(answer.status, status, "{act} {target}");
    }
    // What is asked twice has to be asked alike.
    let twice = format!("{}&keyward_target=gate", about("sendState", "pump-1"));
    assert_eq!(gateway.forward(&token, &twice, &[]).await.status, 403);
    let headers = [
        ("x-keyward-action", "getState"),
        ("x-keyward-target", "gate"),
    ];
    assert_eq!(gateway.forward(&token, "", &headers).await.status, 200);
    assert_eq!(
        gateway
            .forward(&token, &about("getState", "gate"), &headers)
            .await
            .status,
        200
    );
    assert_eq!(
        gateway
            .forward(&token, &about("getState", "pump-1"), &headers)
            .await
            .status,
        403
    );
    assert_eq!(
        gateway
            .forward(&token, "?keyward_action=getState", &[])
            .await
            .status,
        403
    );

    let body = |target: &str| {
        json!({ "token": token, "action": "getState", "deviceId": target }).to_string()
    };
    for (target, allowed) in [("gate", true), ("stranger", false)] {
        let request = Request::post("/authorize")
            .body(body(target).into())
            .expect("a request");
        let answer = gateway.ask(gateway.api.brokers(), request).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({ "allowed": allowed }))
        );
    }
    let nowhere =
        json!({ "token": token, "action": "getState", "deviceId": "gate", "source": null });
    let request = Request::post("/authorize").body(nowhere.to_string().into());
    let answer = gateway.ask(gateway.api.brokers(), request.expect("a request"));
    assert_eq!(answer.await.status, 400);
}
