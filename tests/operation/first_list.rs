//! Devices, proxies and services ask all the time, from before the gateway is there. They show what is right; but
//! nobody is admitted until all AccessKeys and all Devices are listed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use crate::support::certificates::pem;
use crate::support::cluster;
use crate::support::fault::Fault;
use crate::support::gateway::{Gateway, Plant, send};
use crate::support::plant::Issued;
use crate::support::process::{Folder, Launcher, free_port};
use crate::support::proxy::{Asked, Proxy, Rules};

/// A list that is held is given up after 5 seconds, and tried again after at most 10.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection each.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(1);

/// So many connections at once leave a test enough files.
const MOST_AT_ONCE: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_admitted_before_the_first_lists_are_complete() {
    let scene = Scene::set().await;
    let lists = Lists::default();
    let client = cluster::service_account(cluster::SYSTEM, cluster::GATEWAY).await;
    let proxy = Proxy::start(client, lists.clone()).await;
    let ports = [free_port(), free_port(), free_port()];
    let crowd = Crowd::gather(Question::all(ports, &scene.pump, &scene.token));
    crowd.each_gets("nobody listens", 50).await;

    let launcher = Launcher::new("first-list-held", &proxy.access()).logging("info");
    let mut gateway = scene.gateway(&launcher, ports).await;
    crowd.each_gets("try again", 200).await;
    lists.keys.store(true, Ordering::SeqCst);
    knows_a_key(&mut gateway).await;
    crowd.each_gets("try again", 200).await;
    has_admitted_nobody(&mut gateway).await;
    let before = crowd.tally();
    assert_eq!(count(&before, "admitted"), 0, "{before:?}");

    lists.devices.store(true, Ordering::SeqCst);
    crowd.each_gets("admitted", 50).await;
    let time = crowd.disperse();
    let after = crowd.tally();
    let foreseen = ["nobody listens", "try again", "admitted"].map(|what| count(&after, what));
    let asked: u64 = after.values().sum();
    assert_eq!(foreseen.iter().sum::<u64>(), asked, "{after:?}");
    println!(
        "measured: {asked} connections, {:.0} a second, of which {} were answered before the first lists were \
         complete: 0 admitted",
        asked as f64 / time.as_secs_f64(),
        before.values().sum::<u64>()
    );
}

/// A key that admits all devices, and what a device has got for it.
struct Scene {
    plant: Plant,
    pump: Issued,
    token: String,
    signing_key: PathBuf,
    _folder: Folder,
}

impl Scene {
    async fn set() -> Scene {
        let plant = Plant::new("first-list").await;
        let folder = Folder::new("first-list");
        let key = rcgen::KeyPair::generate().unwrap().serialize_der();
        let mut scene = Scene {
            pump: plant.issue("pump", json!({ "allDevices": true })).await,
            token: String::new(),
            signing_key: folder.write("signing.pem", &pem("PRIVATE KEY", &key)),
            _folder: folder,
            plant,
        };
        // Of another gateway that signs alike.
        let mut gateway = scene.gateway(&scene.plant.launcher, [0; 3]).await;
        gateway.process.is_ready().await;
        let (_, said) = gateway.auth("pump-1", &scene.pump).await;
        scene.token = said["token"].as_str().unwrap().to_owned();
        scene
    }

    async fn gateway(&self, launcher: &Launcher, ports: [u16; 3]) -> Gateway {
        let flags = [
            format!("--namespace={}", self.plant.place.name()),
            format!("--signing-key={}", self.signing_key.display()),
            "--issuer=https://gateway".to_owned(),
            "--request-timeout=5s".to_owned(),
        ];
        let flags = flags.each_ref().map(String::as_str);
        Gateway::of(launcher.start_gateway_at(ports, &flags)).await
    }
}

async fn knows_a_key(gateway: &mut Gateway) {
    let begin = Instant::now();
    while gateway.process.metric("keyward_gateway_keys").await == 0 {
        assert!(begin.elapsed() < PATIENCE, "the keys are not listed");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn has_admitted_nobody(gateway: &mut Gateway) {
    for asked in ["authenticate", "authorize"] {
        let allow = format!("keyward_decisions_total{{asked=\"{asked}\",answer=\"allow\"}}");
        assert_eq!(gateway.process.metric(&allow).await, 0);
    }
}

/// The lists that the gateway gets an answer to.
#[derive(Clone, Default)]
struct Lists {
    keys: Arc<AtomicBool>,
    devices: Arc<AtomicBool>,
}

impl Rules for Lists {
    fn request(&self, asked: &Asked) -> Option<Fault> {
        let is_answered = match asked.path.contains("/accesskeys") {
            true => &self.keys,
            false => &self.devices,
        };
        (!is_answered.load(Ordering::SeqCst)).then_some(Fault::Hold)
    }
}

/// Something that is asked, of a gateway that would say yes.
struct Question {
    to: SocketAddr,
    what: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// What says yes in an answer of 200.
    yes: &'static str,
    /// The status that says: try again.
    later: u16,
}

impl Question {
    fn all([devices, brokers, admin]: [u16; 3], pump: &Issued, token: &str) -> Vec<Question> {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let credentials =
            json!({ "deviceId": "pump-1", "key": pump.key, "secret": pump.secret }).to_string();
        let basic = Base64::encode_string(format!("{}:{}", pump.key, pump.secret).as_bytes());
        let act = json!({ "token": token, "action": "sendState", "deviceId": "pump-1" });
        let bearer = || vec![("authorization", format!("Bearer {token}"))];
        let question = |port, what, yes| Question {
            to: at(port),
            what,
            headers: Vec::new(),
            body: String::new(),
            yes,
            later: 503,
        };
        vec![
            Question {
                body: credentials,
                ..question(devices, "POST /auth/device", "\"token\":")
            },
            Question {
                headers: vec![("authorization", format!("Basic {basic}"))],
                body: "grant_type=client_credentials&device_id=pump-1".to_owned(),
                ..question(devices, "POST /oauth/token", "\"access_token\":")
            },
            Question {
                body: format!("token={token}"),
                ..question(brokers, "POST /introspect", "\"active\":true")
            },
            Question {
                headers: bearer(),
                later: 429,
                ..question(brokers, "GET /forward-auth", "")
            },
            Question {
                headers: bearer(),
                later: 429,
                ..question(brokers, "GET /ext-authz/some/path", "")
            },
            Question {
                body: act.to_string(),
                ..question(brokers, "POST /authorize", "\"allowed\":true")
            },
            question(admin, "GET /readyz", ""),
        ]
    }

    async fn ask(&self) -> String {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        match send(self.to, self.what, &headers, &self.body).await {
            Ok((200, body)) if body.contains(self.yes) => "admitted".to_owned(),
            Ok((status, _)) if status == self.later => "try again".to_owned(),
            Ok((status, body)) => format!("{status} {body}"),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                "nobody listens".to_owned()
            }
            Err(error) => error.to_string(),
        }
    }
}

/// What was answered to which question, and how often.
type Tally = BTreeMap<(&'static str, String), u64>;

/// How often this was answered.
fn count(tally: &Tally, what: &str) -> u64 {
    let same = tally.iter().filter(|((_, answer), _)| answer == what);
    same.map(|(_, count)| count).sum()
}

/// Asks, one question after the other, without waiting for answers.
struct Crowd {
    questions: Arc<[Question]>,
    tally: Arc<Mutex<Tally>>,
    since: Instant,
    asking: JoinHandle<()>,
}

impl Crowd {
    fn gather(questions: Vec<Question>) -> Crowd {
        let (questions, tally): (Arc<[Question]>, Arc<Mutex<Tally>>) =
            (questions.into(), Arc::default());
        let asking = tokio::spawn(ask_all_the_time(Arc::clone(&questions), Arc::clone(&tally)));
        Crowd {
            questions,
            tally,
            since: Instant::now(),
            asking,
        }
    }

    fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits until every question was answered like this so many times more.
    async fn each_gets(&self, what: &str, times: u64) {
        let count = |tally: &Tally, question: &Question| {
            let answer = (question.what, what.to_owned());
            tally.get(&answer).copied().unwrap_or_default()
        };
        let before = self.tally();
        let begin = Instant::now();
        loop {
            let now = self.tally();
            let has_come = |question| count(&now, question) >= count(&before, question) + times;
            if self.questions.iter().all(has_come) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "not {what:?}: {now:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// For how long did it ask?
    fn disperse(&self) -> Duration {
        self.asking.abort();
        self.since.elapsed()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn ask_all_the_time(questions: Arc<[Question]>, tally: Arc<Mutex<Tally>>) {
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    // What was missed is made up for.
    let mut ticks = interval(BETWEEN_QUESTIONS);
    for number in (0..questions.len()).cycle() {
        ticks.tick().await;
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (questions, tally) = (Arc::clone(&questions), Arc::clone(&tally));
        tokio::spawn(async move {
            let question = &questions[number];
            let answer = question.ask().await;
            *tally
                .lock()
                .unwrap()
                .entry((question.what, answer))
                .or_default() += 1;
            drop(place);
        });
    }
}
