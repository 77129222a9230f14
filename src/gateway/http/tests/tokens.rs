//! What a token is good for, and how long.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_token_lives_as_long_as_what_it_names() {
    let gateway = Gateway::new();
    let ids = json!({ "restrictions": { "deviceIds": ["pump-1"] } });
    let verifier = Verifier::of(
        &Secret::parse(SECRET).expect("well formed"),
        HashProfile::Fleet,
    );
    let verifier = verifier.expect("a hash").as_str().to_owned();
    gateway.apply_with(ids.clone(), &verifier);
    let token = gateway.token("pump-1").await;
    let said = gateway.introspect(&token).await;
    assert_eq!(said["active"], true);
    assert_eq!(
        (&said["sub"], &said["client_id"], &said["iss"], &said["aud"]),
        (
            &json!("pump-1"),
            &json!(KEY),
            &json!(ISSUER),
            &json!(AUDIENCE)
        )
    );
    assert_eq!(
        said["exp"].as_i64().expect("a time") - said["iat"].as_i64().expect("a time"),
        3600
    );
    let inactive = json!({ "active": false });

    let other = json!({ "restrictions": { "deviceIds": ["pump-2"] } });
    let off = json!({ "restrictions": { "deviceIds": ["pump-1"] }, "state": "Inactive" });
    for spec in [other, off] {
        gateway.apply_with(spec, &verifier);
        assert_eq!(gateway.introspect(&token).await, inactive);
        assert_eq!(gateway.forward(&token, "", &[]).await.status, 401);
        gateway.apply_with(ids.clone(), &verifier);
        assert_eq!(gateway.introspect(&token).await["active"], true);
    }
    // The same secret under another salt is another verifier.
    gateway.apply(ids.clone());
    assert_eq!(gateway.introspect(&token).await, inactive);
    gateway.apply_with(ids, &verifier);
    gateway.hand.advance(Duration::from_secs(3599));
    assert_eq!(gateway.introspect(&token).await["active"], true);
    gateway.hand.advance(Duration::from_secs(1));
    assert_eq!(gateway.introspect(&token).await, inactive);
    for wrong in ["", "x", "a.b.c", SECRET] {
        assert_eq!(gateway.introspect(wrong).await, inactive);
    }
}

#[tokio::test]
async fn a_token_can_be_asked_for_that_may_do_less() {
    let gateway = Gateway::new();
    let body = json!({
        "deviceId": "pump-1", "key": KEY, "secret": SECRET, "tokenTTL": 60,
        "requestedScopes": ["device.sendState", "device.sendState"],
    });
    let said = gateway.post("/auth/device", body.to_string()).await.json();
    let token = said["token"].as_str().expect("a token");
    let said = gateway.introspect(token).await;
    assert_eq!(said["scope"], "device.sendState");
    assert_eq!(
        said["exp"].as_i64().expect("a time") - said["iat"].as_i64().expect("a time"),
        60
    );
    let may = async |act: &str| {
        let query = format!("?keyward_action={act}&keyward_target=pump-1");
        gateway.forward(token, &query, &[]).await.status
    };
    assert_eq!(may("sendState").await, 200);
    assert_eq!(may("getState").await, 403);
}

#[tokio::test]
async fn whoever_has_the_published_keys_can_verify_a_token() {
    let gateway = Gateway::new();
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        gateway.ask(gateway.api.devices(), request).await.json()
    };
    let token = gateway.token("pump-1").await;
    let keys = get("/.well-known/jwks.json").await;
    let [key] = keys["keys"].as_array().expect("keys").as_slice() else {
        panic!("one key");
    };
    use base64ct::{Base64UrlUnpadded, Encoding};
    let part = |text: &str| Base64UrlUnpadded::decode_vec(text).expect("base64");
    let point = [
        vec![4],
        part(key["x"].as_str().expect("x")),
        part(key["y"].as_str().expect("y")),
    ]
    .concat();
    let (signed, signature) = token.rsplit_once('.').expect("parts");
    let public =
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point);
    assert!(public.verify(signed.as_bytes(), &part(signature)).is_ok());
    let metadata = get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["issuer"], ISSUER);
    assert_eq!(metadata["token_endpoint"], format!("{ISSUER}/oauth/token"));
}

#[tokio::test]
async fn a_gateway_that_knows_too_little_says_later() {
    let gateway = Gateway::new();
    let token = gateway.token("pump-1").await;
    gateway.hand.advance(Duration::from_secs(24 * 3600 + 1));
    let answer = gateway.auth("pump-1", KEY, SECRET).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    let form = format!(
        "grant_type=client_credentials&device_id=pump-1&client_id={KEY}&client_secret={SECRET}"
    );
    let answer = gateway.post("/oauth/token", form).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    // The token has ended meanwhile, but nobody knows more than that.
    let answer = gateway.forward(&token, "", &[]).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_token_lives_no_longer_than_its_key() {
    let gateway = Gateway::new();
    let end = "2026-06-01T12:10:00Z";
    let until = |expires_at: &str| {
        gateway.apply(json!({
            "restrictions": { "allDevices": true }, "notBefore": "2026-06-01T12:00:00Z", "expiresAt": expires_at,
        }));
    };
    until(end);
    let token = gateway.token("pump-1").await;
    let end: Timestamp = end.parse().expect("a time");
    assert_eq!(gateway.introspect(&token).await["exp"], end.as_second());
    gateway.hand.advance(Duration::from_secs(599));
    assert_eq!(gateway.forward(&token, "", &[]).await.status, 200);
    gateway.hand.advance(Duration::from_secs(1));
    assert_eq!(gateway.forward(&token, "", &[]).await.status, 401);
    assert_eq!(gateway.auth("pump-1", KEY, SECRET).await.status, 401);

    until("2026-06-01T13:00:00Z");
    assert_eq!(gateway.auth("pump-1", KEY, SECRET).await.status, 200);
    assert_eq!(
        gateway.forward(&token, "", &[]).await.status,
        401,
        "a token is not extended"
    );
}
