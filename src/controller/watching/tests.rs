use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::channel::mpsc;
use futures::{FutureExt, SinkExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::store::Writer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time;

use super::*;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_a_list_finds_is_looked_at_once_the_list_is_complete() {
    let (mut happens, events) = mpsc::unbounded();
    let (store, writer) = reflector::store();
    let mut looks = to_look_at(events.reflect(writer), store.clone(), Vec::new).boxed();
    let mut tell = async |event| happens.send(Ok(event)).await.expect("it is heard");

    tell(Event::Init).await;
    tell(Event::InitApply(object("a", "1"))).await;
    tell(Event::InitDone).await;
    assert_eq!(looked_at(&mut looks), ["a 1"]);
    tell(Event::Init).await;
    tell(Event::InitApply(object("a", "2"))).await;
    tell(Event::InitApply(object("b", "2"))).await;
    assert!(looked_at(&mut looks).is_empty(), "it is still under way");
    tell(Event::InitDone).await;
    assert_eq!(looked_at(&mut looks), ["a 2", "b 2"]);
    tell(Event::Apply(object("a", "3"))).await;
    tell(Event::Delete(object("b", "4"))).await;
    assert_eq!(looked_at(&mut looks), ["a 3"]);
}

fn looked_at(looks: &mut BoxStream<'static, Result<ConfigMap, Error>>) -> Vec<String> {
    let now = || looks.next().now_or_never().flatten();
    let objects = std::iter::from_fn(now).map(|look| look.expect("an object").metadata);
    let mut texts: Vec<String> = objects
        .map(|meta| {
            [meta.name, meta.resource_version]
                .map(Option::unwrap_or_default)
                .join(" ")
        })
        .collect();
    texts.sort();
    texts
}

/// A look ends, and an error comes. Whether the queue stops, if it sees the error, until the next turn of an object
/// depends on how often it has looked around before.
#[tokio::test(start_paused = true)]
async fn an_error_that_comes_with_the_end_of_a_look_does_not_stop_the_queue() {
    for (errors, polls) in (0..4).flat_map(|errors| (0..4).map(move |polls| (errors, polls))) {
        let (told, gate) = (mpsc::unbounded(), Arc::new(Semaphore::new(0)));
        let tell = |seen| told.0.unbounded_send(seen).expect("it is heard");
        let (mut looks, _writer) = queue_of(told.1, Arc::clone(&gate));
        tell(Ok(object("a", "1")));
        (0..errors).for_each(|_| tell(Err(Error::NoResourceVersion)));
        for _ in 0..20 + polls {
            assert!(looks.next().now_or_never().is_none(), "it waits");
            sleep(Duration::from_secs(5)).await;
        }
        gate.add_permits(2);
        sleep(Duration::from_millis(1)).await;
        tell(Err(Error::NoResourceVersion));
        tell(Ok(object("b", "1")));
        for name in ["a", "b"] {
            let looked = time::timeout(HOUR, looks.next()).await;
            assert_eq!(looked.expect("it goes on").as_deref(), Some(name));
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// The names of those that were looked at, each for as long as it takes to get a permit.
fn queue_of(
    told: mpsc::UnboundedReceiver<Result<ConfigMap, Error>>,
    gate: Arc<Semaphore>,
) -> (BoxStream<'static, String>, Writer<ConfigMap>) {
    let (store, mut writer) = reflector::store();
    for event in [
        Event::Init,
        Event::InitApply(object("a", "1")),
        Event::InitApply(object("b", "1")),
        Event::InitDone,
    ] {
        writer.apply_watcher_event(&event);
    }
    let look = |_: Arc<ConfigMap>, gate: Arc<Semaphore>| async move {
        gate.acquire().await.expect("it is open").forget();
        Ok::<_, Infallible>(Action::requeue(2 * HOUR))
    };
    let looks = controller::Controller::for_stream(objects_only(told), store)
        .run(look, |_, never, _| match *never {}, gate)
        .map(|looked| looked.map_or("an error".to_owned(), |looked| looked.0.name))
        .boxed();
    (looks, writer)
}

#[tokio::test]
async fn a_list_that_is_not_answered_is_given_up_and_begun_anew() {
    for silence in [Reply::Silence, Reply::Half] {
        let server = Server::start([silence, Reply::List, Reply::Silence]).await;
        let mut events = server.events().boxed();
        assert!(matches!(next(&mut events).await, Ok(Event::Init)));
        assert_eq!(given_up(&mut events, &server).await, REQUEST_TIMEOUT);
        is_listed(&mut events).await;
        assert_eq!(server.asked(), ["list", "list"]);
    }
}

#[tokio::test]
async fn a_watch_that_goes_silent_is_given_up_and_everything_is_listed_again() {
    for silence in [Reply::Silence, Reply::Half] {
        let server = Server::start([Reply::List, silence, Reply::List, Reply::Silence]).await;
        let mut events = server.events().boxed();
        is_listed(&mut events).await;
        assert_eq!(given_up(&mut events, &server).await, punctual::PATIENCE);
        is_listed(&mut events).await;
        assert_eq!(server.asked(), ["list", "watch for 20 s", "list"]);
    }
}

#[tokio::test]
async fn after_an_error_of_a_watch_everything_is_listed_again() {
    let too_large = Reply::Refusal(504);
    let within = Reply::Told(json!({ "type": "ERROR", "object": {
        "kind": "Status", "status": "Failure", "code": 500, "reason": "InternalError",
    }}));
    for error in [too_large, within] {
        let server = Server::start([Reply::List, error, Reply::List, Reply::Silence]).await;
        let mut events = server.events().boxed();
        is_listed(&mut events).await;
        assert!(next(&mut events).await.is_err());
        is_listed(&mut events).await;
        assert_eq!(server.asked(), ["list", "watch for 20 s", "list"]);
    }
}

#[tokio::test]
async fn after_the_end_of_a_watch_the_next_goes_on_without_a_list() {
    let told = json!({ "type": "ADDED", "object": object("a", "6") });
    let server = Server::start([Reply::List, Reply::Told(told), Reply::Silence]).await;
    let mut events = server.events().boxed();
    is_listed(&mut events).await;
    assert!(matches!(next(&mut events).await, Ok(Event::Apply(_))));
    let more = tokio::spawn(async move { events.next().await.is_some() });
    while server.asked().len() < 3 {
        sleep(Duration::from_millis(5)).await;
    }
    more.abort();
    assert_eq!(server.asked(), ["list", "watch for 20 s", "watch for 20 s"]);
}

#[tokio::test(start_paused = true)]
async fn only_a_watch_that_lasted_makes_the_next_pause_short() {
    let failing = || stream::iter([Err::<Event<ConfigMap>, _>(Error::NoResourceVersion)]);
    let mut watching = Watching {
        events: failing(),
        start: failing,
        since: Instant::now(),
        backoff: Backoff::default(),
        pause: None,
    };
    let mut pauses = Vec::new();
    for _ in 0..6 {
        assert!(watching.next().await.expect("an event").is_err());
        pauses.push(watching.pause.expect("a pause").as_secs());
    }
    assert_eq!(pauses[0], 1);
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert_eq!(pauses[5], LONGEST_PAUSE.as_secs());

    watching.events = failing();
    watching.pause = None;
    sleep(punctual::PATIENCE).await;
    assert!(watching.next().await.expect("an event").is_err());
    assert_eq!(watching.pause.map(|pause| pause.as_secs()), Some(1));
}

fn object(name: &str, version: &str) -> ConfigMap {
    let meta = json!({ "name": name, "namespace": "plant", "resourceVersion": version });
    serde_json::from_value(json!({ "metadata": meta })).expect("an object")
}

type Events = BoxStream<'static, Result<Event<ConfigMap>, Error>>;

async fn next(events: &mut Events) -> Result<Event<ConfigMap>, Error> {
    events.next().await.expect("it never ends")
}

/// The next events are those of a list.
async fn is_listed(events: &mut Events) {
    loop {
        if let Event::InitDone = next(events).await.expect("no error") {
            return;
        }
    }
}

/// Waits for the error that a silent answer becomes, and says how long that took.
///
/// From the moment that the server is silent, time is passed over.
async fn given_up(events: &mut Events, server: &Server) -> Duration {
    let begin = Instant::now();
    let silent = async {
        server.is_silent().await;
        time::pause();
    };
    let an_hour = Duration::from_secs(3600);
    let (error, ()) = tokio::join!(time::timeout(an_hour, next(events)), silent);
    let taken = begin.elapsed();
    time::resume();
    assert!(error.expect("it is given up").is_err());
    Duration::from_secs(taken.as_secs())
}

/// What a server does with a request.
#[derive(Clone)]
enum Reply {
    /// An empty list.
    List,
    /// One event of a watch, and the end.
    Told(Value),
    /// A Status.
    Refusal(u16),
    /// It never answers.
    Silence,
    /// It begins to answer.
    Half,
}

/// A server on the loopback interface that replies to one request after the other.
struct Server {
    client: Client,
    script: Arc<Script>,
}

struct Script {
    replies: Mutex<VecDeque<Reply>>,
    asked: Mutex<Vec<String>>,
    silent: tokio::sync::Notify,
}

impl Server {
    async fn start(replies: impl IntoIterator<Item = Reply>) -> Server {
        let script = Arc::new(Script {
            replies: Mutex::new(replies.into_iter().collect()),
            asked: Mutex::default(),
            silent: tokio::sync::Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new()
            .fallback(reply)
            .with_state(Arc::clone(&script));
        tokio::spawn(async { axum::serve(listener, router).await });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("http://{address}").parse().expect("an address");
        let client = crate::controller::client(kube::Config::new(url)).expect("a client");
        Server { client, script }
    }

    fn events(&self) -> impl Stream<Item = Result<Event<ConfigMap>, Error>> + use<> {
        let mut apis = punctual::apis(&self.client, &["plant".to_owned()], REQUEST_TIMEOUT);
        events(apis.remove(0), PAGE)
    }

    fn asked(&self) -> Vec<String> {
        self.script.asked.lock().expect("no panic").clone()
    }

    async fn is_silent(&self) {
        self.script.silent.notified().await;
    }
}

async fn reply(State(script): State<Arc<Script>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let seconds = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("timeoutSeconds="));
    let what = match seconds {
        Some(seconds) => format!("watch for {seconds} s"),
        None => "list".to_owned(),
    };
    script.asked.lock().expect("no panic").push(what);
    let reply = script.replies.lock().expect("no panic").pop_front();
    let kind = json!({ "kind": "ConfigMapList", "apiVersion": "v1" });
    match reply.expect("no more requests than replies") {
        Reply::List => {
            let meta = json!({ "metadata": { "resourceVersion": "5" }, "items": [] });
            merged(kind, meta).to_string().into_response()
        }
        Reply::Told(event) => event.to_string().into_response(),
        Reply::Refusal(code) => {
            let status =
                json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "Timeout" });
            let code = StatusCode::from_u16(code).expect("a code");
            (code, status.to_string()).into_response()
        }
        Reply::Silence => {
            script.silent.notify_one();
            std::future::pending().await
        }
        Reply::Half => {
            let half = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\n"))]);
            let rest = stream::once(async move {
                script.silent.notify_one();
                std::future::pending().await
            });
            Body::from_stream(half.chain(rest)).into_response()
        }
    }
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}
