//! Real front ends, as `deploy/frontends` has them, before a real gateway: who is let through is let
//! through as who it is, and nobody is let through for want of an answer.

#![allow(clippy::unwrap_used)]

mod client;
mod front_end;
mod guarded;
mod scene;

use self::client::{get, post};
use self::front_end::{FrontEnd, Kind};
use self::scene::{Scene, basic};
use crate::support::process::{Access, Launcher, holds_no_secret};
use serde_json::json;

/// Every test with every front end.
macro_rules! with_each_front_end {
    ($($test:ident,)*) => {
        with_each_front_end!(nginx Nginx: $($test,)*);
        with_each_front_end!(caddy Caddy: $($test,)*);
        with_each_front_end!(envoy Envoy: $($test,)*);
    };
    ($module:ident $kind:ident: $($test:ident,)*) => {
        mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Kind::$kind).await;
            }
        )* }
    };
}

with_each_front_end! {
    who_has_a_good_token_is_let_through_as_who_it_is,
    all_others_are_refused,
    what_is_done_to_a_device_is_judged_by_who_does_it,
    the_address_that_counts_is_that_of_the_client,
    without_an_answer_nobody_is_let_through,
}

async fn who_has_a_good_token_is_let_through_as_who_it_is(kind: Kind) {
    let scene = Scene::of(kind).await;
    let pumps = scene.pumps().await;
    let token = scene.token("pump-1", &pumps).await;
    let own = scene.identity("pump-1", &pumps);
    let asks = |path: &str| get(path).bearing(&token);
    // What a client says of itself, in the words of the gateway.
    let spoofs: [&[(&str, &str)]; 7] = [
        &[],
        &[("X-Keyward-Device", "pump-2"), ("X-Keyward-Key", "AK")],
        &[("x-keyward-class", "System"), ("X-KEYWARD-NAMESPACE", "x")],
        &[("X-Keyward-Device", "pump-2"), ("X-Keyward-Device", "")],
        &[("X_Keyward_Device", "pump-2"), ("x_keyward_key", "AK")],
        &[("X-Keyward-Caller", "pump-2"), ("X-Keyward-Target", "x")],
        &[("Connection", "close, X-Keyward-Device, X-Keyward-Class")],
    ];
    for spoof in spoofs {
        let request = spoof
            .iter()
            .fold(asks("/firmware?version=1"), |request, (name, value)| {
                request.with(name, value)
            });
        let arrived = scene.is_let_through(&request).await;
        assert_eq!(arrived.claims(), own, "{spoof:?}");
        assert_eq!(arrived.uri, "/firmware?version=1");
    }

    let by_oauth = scene.oauth_token("pump-1", &pumps).await;
    let request = post("/log", "all is well").bearing(&by_oauth);
    let arrived = scene.is_let_through(&request).await;
    assert_eq!((&*arrived.method, &*arrived.body), ("POST", "all is well"));
    assert_eq!(arrived.claims(), own);

    // What the service itself answers is nobody else's to change.
    for status in [401, 403, 404, 429, 500, 503] {
        let answer = scene.send(&asks(&format!("/status/{status}"))).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.arrived().claims(), own);
    }
}

async fn all_others_are_refused(kind: Kind) {
    let scene = Scene::of(kind).await;
    let pumps = scene.pumps().await;
    let token = scene.token("pump-1", &pumps).await;
    let wrong = pumps.with(&crate::support::keys::some_secret());
    assert_eq!(scene.auth("pump-1", &wrong).await.status, 401);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let forged: String = signature.chars().rev().collect();
    let rows = [
        ("nothing", get("/")),
        ("no token", get("/").bearing("")),
        ("the secret", get("/").bearing(&pumps.secret)),
        (
            "key and secret",
            get("/").with("Authorization", &basic(&pumps)),
        ),
        ("no signature", get("/").bearing(&format!("{signed}."))),
        (
            "another's signature",
            get("/").bearing(&format!("{signed}.{forged}")),
        ),
        ("no scheme", get("/").with("Authorization", &token)),
        (
            "the token elsewhere",
            get(&format!("/?access_token={token}")),
        ),
        ("an identity", get("/").with("X-Keyward-Device", "pump-1")),
        (
            "the front end's own token",
            get("/").with("X-Keyward-Caller", &scene.wiring.caller),
        ),
    ];
    for (what, request) in rows {
        let answer = scene.is_refused(&request, 401, what).await;
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some("Bearer error=\"invalid_token\""), "{what}");
    }

    let request = get("/").bearing(&token);
    scene.is_let_through(&request).await;
    let state = |state: &str| json!({ "spec": { "state": state } });
    scene.plant.change("pumps", state("Inactive")).await;
    scene.gateway_says(&token, 401).await;
    // The very next request: nobody remembers an answer.
    scene.is_refused(&request, 401, "an inactive key").await;
    scene.plant.change("pumps", state("Active")).await;
    scene.gateway_says(&token, 200).await;
    scene.is_let_through(&request).await;
    let log = scene.launcher.log() + &scene.front_end.output();
    holds_no_secret(&log, &[pumps.secret]);
}

async fn what_is_done_to_a_device_is_judged_by_who_does_it(kind: Kind) {
    let scene = Scene::of(kind).await;
    let pumps = scene.pumps().await;
    let token = scene.token("pump-1", &pumps).await;
    let may = [
        (get("/devices/pump-1/state"), "getState", "pump-1"),
        (get("/devices/pump-2/state"), "getState", "pump-2"),
        (get("/devices/pump-2/state?at=1"), "getState", "pump-2"),
        (post("/devices/pump-1/state", "{}"), "sendState", "pump-1"),
    ];
    for (request, action, target) in may {
        let arrived = scene.is_let_through(&request.bearing(&token)).await;
        let mut claims = scene.identity("pump-1", &pumps);
        claims.push(("x-keyward-action".to_owned(), action.to_owned()));
        claims.push(("x-keyward-target".to_owned(), target.to_owned()));
        claims.sort_unstable();
        assert_eq!(arrived.claims(), claims);
    }
    let may_not = [
        get("/devices/valve/state"),
        post("/devices/valve/state", "{}"),
        post("/devices/pump-2/state", "{}"),
        get("/devices/no%20device/state"),
        // The same, in other words.
        get("/devices/pump-1/../valve/state"),
        get("//devices/./valve//state"),
        get("/%64evices/v%61lve/state"),
        // What the client says is asked beside it.
        get("/devices/valve/state?keyward_action=getState&keyward_target=pump-1"),
        get("/devices/valve/state").with("X-Keyward-Target", "pump-1"),
        post("/devices/pump-2/state", "{}").with("X-Keyward-Action", "getState"),
    ];
    for request in may_not {
        let what = format!("{request:?}");
        scene.is_refused(&request.bearing(&token), 403, &what).await;
    }
    // Without a good token nobody learns which devices there are.
    for device in ["pump-1", "valve"] {
        let request = get(&format!("/devices/{device}/state")).bearing("no-token");
        scene.is_refused(&request, 401, device).await;
    }
}

async fn the_address_that_counts_is_that_of_the_client(kind: Kind) {
    let scene = Scene::of(kind).await;
    let pumps = scene.pumps().await;
    let token = scene.token("pump-1", &pumps).await;
    let sources = json!({ "filter": "AllowList", "cidrs": ["127.0.0.2"] });
    let change = json!({ "spec": { "sources": sources } });
    scene.plant.change("pumps", change).await;
    // Which is not asked from there.
    scene.gateway_says(&token, 401).await;
    let request = get("/").bearing(&token);
    scene
        .is_let_through(&request.clone().from("127.0.0.2"))
        .await;
    scene
        .is_refused(&request.clone().from("127.0.0.3"), 401, "another address")
        .await;
    let claims = request
        .from("127.0.0.3")
        .with("X-Forwarded-For", "127.0.0.2");
    scene.is_refused(&claims, 401, "a claimed address").await;
}

async fn without_an_answer_nobody_is_let_through(kind: Kind) {
    let mut scene = Scene::of(kind).await;
    let pumps = scene.pumps().await;
    let token = scene.token("pump-1", &pumps).await;
    let request = get("/").bearing(&token);
    scene.is_let_through(&request).await;

    // Whoever does not know the gateway's token for front ends has no answer to give.
    let unknown = FrontEnd::start(kind, &scene.wiring.called("nobody-that-it-knows")).await;
    assert_eq!(request.send(unknown.address).await.status, 401);
    assert_eq!(scene.guarded.asked(), 1);

    scene.gateway().pause();
    scene.is_not_let_through(&request, "no answer").await;
    scene.gateway().resume();
    scene.until_let_through(&request).await;

    scene.kill_gateway();
    scene.is_not_let_through(&request, "no gateway").await;

    // Nothing makes a gateway so busy that it says "later" each time; one that has not listed all
    // says it in the same words.
    let purpose = format!("nowhere-{}", scene.plant.namespace);
    let nowhere = Launcher::new(&purpose, &Access::at("http://127.0.0.1:9"));
    scene.start_gateway(Some(&nowhere)).await;
    let act = get("/devices/pump-1/state").bearing(&token);
    for request in [&request, &act, &get("/").bearing("no-token")] {
        let answer = scene.is_refused(request, 503, "later").await;
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    scene.kill_gateway();

    scene.start_gateway(None).await;
    scene.until_let_through(&request).await;
}
