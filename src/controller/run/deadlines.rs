//! Every step ends, whatever the API server does not say.

use std::convert::Infallible;
use std::future::pending;

use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time;

use super::super::ledger::{AttemptId, Uid, Version};
use super::super::observed::Answer;
use super::*;
use crate::verifier::HashProfile;

const DEADLINE: Duration = Duration::from_secs(10);
const AN_HOUR: Duration = Duration::from_secs(3600);

/// All that are a request: the names are there so that a step that is added is missed here.
fn steps() -> Vec<Step> {
    let (uid, version) = (Uid("uid-of-the-secret".into()), Version(9));
    let over = Some((uid.clone(), version));
    let attempt = AttemptId(1);
    let publish = |over| Step::Publish { attempt, over };
    let steps = vec![
        Step::ReadKey,
        Step::ReadSecret { bytes: false },
        Step::ReadSecret { bytes: true },
        Step::Recheck,
        Step::Commit {
            outlived: Vec::new(),
        },
        publish(None),
        publish(over),
        Step::Confirm {
            attempt,
            secret: uid.clone(),
            settled: true,
        },
        Step::DeleteSecret {
            uid: uid.clone(),
            version,
        },
        Step::Withdraw {
            uid: uid.clone(),
            version,
        },
        Step::Look,
        Step::Consume,
        Step::Adopt { uid, version },
        Step::Rebind,
        Step::TakeOver {
            attempt: AttemptId(1),
        },
        Step::ClearMark,
        Step::Retire,
        Step::Schedule {
            next: None,
            skips: false,
        },
    ];
    for step in &steps {
        match step {
            Step::ReadKey | Step::ReadSecret { .. } | Step::Recheck => {}
            Step::Commit { .. } | Step::Publish { .. } | Step::Confirm { .. } => {}
            Step::DeleteSecret { .. } | Step::Adopt { .. } | Step::Rebind => {}
            Step::TakeOver { .. } | Step::Withdraw { .. } | Step::Look | Step::Consume => {}
            Step::ClearMark | Step::Retire | Step::Schedule { .. } => {}
            Step::StartOver | Step::Rest(_) => panic!("{step:?} asks for nothing"),
        }
    }
    steps
}

#[tokio::test]
async fn every_step_ends_though_the_answer_does_not_come_or_does_not_end() {
    let heads = ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"];
    for head in heads {
        for step in steps() {
            let mut server = Server::start(head).await;
            let tools = server.tools();
            let key = access_key();
            let observed = Observed::cached(
                status::view(&key).expect("a view"),
                Memory::default(),
                Moment::default(),
            );
            let mut run = Run {
                tools: &tools,
                keys: Api::namespaced(tools.client.clone(), "plant"),
                secrets: Api::namespaced(tools.client.clone(), "plant"),
                key,
                plaintext: Some(secret()),
                contents: Some(Contents {
                    key: "kwk_".to_owned(),
                    secret: secret(),
                }),
                failure: None,
                issued: 0,
                turns: Vec::new(),
                alarm: None,
                rival: None,
            };
            // From the moment that the server is silent, time is passed over.
            let silent = async {
                server.is_silent().await;
                time::pause();
            };
            let taken = time::timeout(AN_HOUR, run.take(&step, &observed));
            let (answer, ()) = tokio::join!(taken, silent);
            time::resume();
            assert_eq!(answer, Ok(Answer::Failed), "{step:?} {head:?}");
            let (_, failure) = run.failure.take().expect("a failure");
            let late = matches!(failure, Failure::Deadline(DEADLINE));
            assert!(late, "{step:?} {head:?} {failure:?}");
        }
    }
}

fn access_key() -> Arc<AccessKey> {
    let key = json!({
        "metadata": { "name": "pump", "namespace": "plant", "uid": "u", "resourceVersion": "7" },
        "spec": {
            "restrictions": { "allDevices": true },
            "existing": { "key": "k", "verifier": "v" },
        },
        "status": { "key": "kwk_0123456789abcdefghjkmnpqrs" },
    });
    Arc::new(serde_json::from_value(key).expect("an AccessKey"))
}

fn secret() -> Secret {
    Secret::generate().expect("a secret")
}

/// A server that begins every answer in one way, and ends none.
struct Server {
    client: Client,
    silent: mpsc::UnboundedReceiver<()>,
}

impl Server {
    async fn start(head: &'static str) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, silent) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(begin(stream, head, tell.clone()));
            }
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("http://{address}").parse().expect("an address");
        let client = super::super::client(kube::Config::new(url)).expect("a client");
        Server { client, silent }
    }

    fn tools(&self) -> Tools {
        let (metrics, _) = Metrics::new();
        let (clock, _) = Clock::manual(Timestamp::UNIX_EPOCH);
        Tools {
            client: self.client.clone(),
            request_timeout: DEADLINE,
            timing: Timing::with_grace(AN_HOUR),
            clock,
            hasher: Hasher::new(HashProfile::Fleet, metrics.clone()),
            metrics,
        }
    }

    async fn is_silent(&mut self) {
        self.silent.recv().await.expect("a request");
    }
}

async fn begin(mut stream: TcpStream, head: &str, tell: mpsc::UnboundedSender<()>) -> Infallible {
    let mut request = [0; 1 << 14];
    let read = stream.read(&mut request).await.expect("a request");
    assert!(read > 0);
    stream
        .write_all(head.as_bytes())
        .await
        .expect("it is heard");
    tell.send(()).expect("the test waits");
    pending().await
}
